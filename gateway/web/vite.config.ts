import react from "@vitejs/plugin-react";
import { loadEnv } from "vite";
import { defineConfig } from "vitest/config";

const gateway = loadEnv("", ".", "WHERRY_").WHERRY_GATEWAY;

export default defineConfig({
  base: "/",
  plugins: [react()],
  build: {
    outDir: "../wherry_gateway/page",
    emptyOutDir: true,
    target: "es2022",
    // The gateway's content security policy lets nothing in that is not a file of its own.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: gateway
    ? {
        proxy: {
          "^/(wherry\\.|v1/)": { target: gateway, secure: false, changeOrigin: true, headers: { origin: gateway } },
        },
      }
    : {},
  test: { environment: "node", css: true, include: ["tests/unit/**/*.test.ts"], unstubGlobals: true },
});
