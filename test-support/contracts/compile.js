// Compiles src/*.sol, offline, with the compiler that is installed beside them.
//
//   node compile.js <folder with node_modules> <output.json>
//
// The output maps a contract's name to its creation code: {"Token": "0x6080…", …}. It appears whole or not at all.
"use strict";

const fs = require("fs");
const path = require("path");
const { createRequire } = require("module");

const [installed, output] = process.argv.slice(2);
if (!installed || !output) {
  throw new Error("usage: node compile.js <folder with node_modules> <output.json>");
}
const modules = path.resolve(installed, "node_modules");
const solc = createRequire(path.join(modules, "solc", "package.json"))("solc");

const own = path.join(__dirname, "src");
const sources = {};
for (const file of fs.readdirSync(own).filter((name) => name.endsWith(".sol"))) {
  sources[file] = { content: fs.readFileSync(path.join(own, file), "utf8") };
}

const input = {
  language: "Solidity",
  sources,
  settings: {
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { "*": { "*": ["evm.bytecode.object"] } },
  },
};
const read = (name) => {
  const file = path.join(modules, name);
  return fs.existsSync(file) ? { contents: fs.readFileSync(file, "utf8") } : { error: `${name} is not installed` };
};
const compiled = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
for (const { severity, formattedMessage } of compiled.errors ?? []) {
  console.error(formattedMessage);
  if (severity === "error") {
    process.exitCode = 1;
  }
}
if (!process.exitCode) {
  const code = {};
  for (const file of Object.keys(sources)) {
    for (const [name, contract] of Object.entries(compiled.contracts[file])) {
      code[name] = `0x${contract.evm.bytecode.object}`;
    }
  }
  fs.writeFileSync(`${output}.part`, JSON.stringify(code));
  fs.renameSync(`${output}.part`, output);
}
