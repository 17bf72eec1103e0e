// A gateway that validates: node gateway.cjs openapi-backend|express-openapi-validator DOCUMENT UPSTREAM
//
// It listens on a free port of 127.0.0.1 and prints it. A request that breaks the document is answered 422, and
// does not reach the server at the origin UPSTREAM; an answer of the server that breaks it becomes 502.
const { readFileSync } = require("node:fs");
const http = require("node:http");
const addFormats = require("ajv-formats");
const express = require("express");
const { middleware } = require("express-openapi-validator");
const { OpenAPIBackend } = require("openapi-backend");

const [tool, file, upstream] = process.argv.slice(2);
const document = JSON.parse(readFileSync(file, "utf8"));
// These belong to one connection, or are told anew of the body.
const HOP = new Set(["connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding"]);

const passed = (headers) => Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP.has(name)));

/** The server's answer to a request, with the body read as JSON. */
async function forward(request, body) {
  const { method, headers } = request;
  const answer = await fetch(upstream + request.originalUrl, {
    method,
    headers: passed(headers),
    body: body.length ? body : undefined,
    redirect: "manual",
  });
  const text = await answer.text();
  const told = text ? JSON.parse(text) : undefined;
  return { status: answer.status, headers: passed(Object.fromEntries(answer.headers)), body: told };
}

const refuse = (response, status, what) => response.status(status).json({ refused: what });

async function backend() {
  const api = new OpenAPIBackend({
    definition: document,
    apiRoot: new URL(document.servers[0].url, upstream).pathname,
    strict: true,
    // By itself it holds every document to the schema of OpenAPI 3.0.
    quick: document.openapi.startsWith("3.1"),
    customizeAjv: (ajv) => addFormats(ajv),
  });
  api.register({
    notFound: (_, request, response) => refuse(response, 422, "there is no such path"),
    methodNotAllowed: (_, request, response) => refuse(response, 422, "there is no such method"),
    validationFail: (context, request, response) => refuse(response, 422, context.validation.errors),
    notImplemented: async (context, request, response) => {
      const answer = await forward(request, request.body);
      const { valid, errors } = context.api.validateResponse(answer.body, context.operation, answer.status);
      const options = { statusCode: answer.status, setMatchType: "any" };
      const headers = context.api.validateResponseHeaders(answer.headers, context.operation, options);
      if (answer.body !== undefined && !valid) return refuse(response, 502, errors);
      if (!headers.valid) return refuse(response, 502, headers.errors);
      return response.status(answer.status).set(answer.headers).send(answer.body);
    },
  });
  await api.init();
  const app = express();
  app.use(express.raw({ type: () => true, limit: "2mb" }));
  app.use(async (request, response) => {
    request.body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    const { method, path, headers, query } = request;
    const body = request.body.length ? request.body.toString() : undefined;
    await api.handleRequest({ method, path, headers, query, body }, request, response);
  });
  return app;
}

function validator() {
  const app = express();
  const verify = (request, response, raw) => { request.raw = raw; };
  app.use(express.json({ strict: false, limit: "2mb", verify }));
  app.use(middleware({ apiSpec: document, validateRequests: true, validateResponses: true }));
  app.use(async (request, response) => {
    const answer = await forward(request, request.raw ?? Buffer.alloc(0));
    response.status(answer.status).set(answer.headers);
    return answer.body === undefined ? response.end() : response.json(answer.body);
  });
  app.use((error, request, response, next) => {
    // The validator gives a status to what is wrong with a request; what is wrong with an answer has 500.
    refuse(response, error.status && error.status < 500 ? 422 : 502, error.errors ?? String(error.stack));
  });
  return app;
}

async function main() {
  const app = tool === "openapi-backend" ? await backend() : validator();
  const server = http.createServer(app).listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
