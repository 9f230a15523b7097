// The rules of the house: strict types, and imports that run one way among the rooms.
//
//   protocol, audio <- codec, client <- page, which may import them all

import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

const ROOMS = {
  protocol: [],
  audio: [],
  codec: ["protocol"],
  client: ["protocol"],
  page: ["protocol", "audio", "codec", "client"],
};

function mayImport(room, allowed) {
  const others = Object.keys(ROOMS).filter((other) => other !== room && !allowed.includes(other));
  const closed = others.flatMap((other) => (other === "protocol" ? ["@streamcodec/protocol", "**/protocol/**"] : [`**/${other}/**`]));
  return {
    files: [`${room}/**/*.ts`],
    rules: {
      "no-restricted-imports": [
        "error",
        { patterns: [{ group: closed, message: `${room} may import ${allowed.join(", ") || "no other room"}` }] },
      ],
    },
  };
}

export default defineConfig(
  { ignores: ["**/dist/**", "**/node_modules/**"] },
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ["*.js", "*.mjs", "vitest.config.ts"] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      "max-lines": ["error", { max: 350, skipComments: false }],
      eqeqeq: "error",
      // Samples and counters are read by an index that is known to be inside.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowNullish: true, allowBoolean: true }],
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
    },
  },
  { files: ["protocol/src/messages.ts"], rules: { "max-lines": ["error", { max: 500 }] } }, // a table, told in one place
  { files: ["**/*.js", "**/*.mjs"], extends: [tseslint.configs.disableTypeChecked] },
  ...Object.entries(ROOMS)
    .filter(([room]) => room !== "page")
    .map(([room, allowed]) => mayImport(room, allowed)),
);
