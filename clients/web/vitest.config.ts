import { defineConfig } from "vitest/config";

export default defineConfig({
  ssr: { resolve: { conditions: ["source", "node"] } },
  resolve: { conditions: ["source"] },
  test: { include: ["{protocol,audio,codec,client,page}/tests/**/*.test.ts"] },
});
