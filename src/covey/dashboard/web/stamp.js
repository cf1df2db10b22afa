// Writes down which sources the bundle was built from; a test holds them against it.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const files = ["index.html", "package.json", "package-lock.json", "vite.config.js"];
const walk = (folder) => {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) walk(path);
    else files.push(path);
  }
};
walk("src");
const hash = createHash("sha256");
for (const file of files.sort()) hash.update(file).update("\0").update(readFileSync(file)).update("\0");
writeFileSync("../static/sources.sha256", `${hash.digest("hex")}\n`);
