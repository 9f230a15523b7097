import { defineConfig } from "vitest/config";

export default defineConfig({
  ssr: { resolve: { conditions: ["source", "node"] } },
  resolve: { conditions: ["source"] },
  test: {
    include: ["{protocol,audio,codec,client,page}/tests/**/*.test.ts"],
    // Nothing but a hang takes so long, on any machine.
    testTimeout: 300_000,
  },
});
