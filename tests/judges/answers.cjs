// chai-openapi-response-validator's judgement of recorded traffic:
// node answers.cjs RECORD CLIENT ADMIN TOKEN KEY: the file of exchanges, the projections of both audiences, a token
// and a key. Prints how many answers satisfy them, or what is wrong.
const { readFileSync } = require("node:fs");
const chai = require("chai");
const validator = require("chai-openapi-response-validator").default;

const [record, client, admin, token, key] = process.argv.slice(2);
const exchanges = readFileSync(record, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
const audience = { [`Bearer ${token}`]: client, [`Bearer ${key}`]: admin };
const header = (exchange, name) => exchange.headers.find(([each]) => each.toLowerCase() === name)?.[1];

/** What is wrong with the answers of one audience; the plugin holds one document, so the audiences take turns. */
function faults(file) {
  const { expect } = chai;
  chai.use(validator(JSON.parse(readFileSync(file, "utf8"))));
  const mine = exchanges.filter((each) => audience[header(each, "authorization")] === file && each.method !== "HEAD");
  const judge = ({ method, path, status, answer }) => {
    // The shape of an answer of axios, one of the kinds that the plugin knows.
    const response = { status, data: answer && JSON.parse(answer), headers: {}, request: { method, path } };
    try {
      expect(response).to.satisfyApiSpec;
      return [];
    } catch (error) {
      return [`${method} ${path} ${status}: ${error.message.slice(0, 600)}`];
    }
  };
  const told = mine.find((each) => each.method === "GET" && each.status === 200);
  if (!told || !judge({ ...told, answer: "{}" }).length) return ["an answer that is spoiled passes"];
  return [mine.length, ...mine.flatMap(judge)];
}

const [[clients, ...wrong], [admins, ...more]] = [faults(client), faults(admin)];
for (const each of [...wrong, ...more].slice(0, 20)) console.log(each);
if (typeof clients !== "number" || typeof admins !== "number" || wrong.length + more.length) {
  console.log(clients, admins);
  process.exit(1);
}
console.log(`${clients + admins} answers`);
