// Fastify with openapi-glue over two projections of the contract: requests are validated and answers
// serialised by their schemas. SQLite by better-sqlite3, PostgreSQL by pg, Redis by ioredis.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";

import Ajv from "ajv";
import formats from "ajv-formats";
import Fastify from "fastify";
import glue from "fastify-openapi-glue";
import { Redis } from "ioredis";
import pino from "pino";

const LIMIT = 1000000;
const PRIORITIES = { 1: "low", 2: "medium", 3: "high" };
const { DATABASE_URL, REDIS_URL, SPECS } = process.env;
const sqlite = DATABASE_URL.startsWith("sqlite:");

// --- the database: all(sql, values) and writing(work), the same for both ------------------------------

async function openSqlite(path) {
  const { default: Database } = await import("better-sqlite3");
  const raw = new Database(path);
  for (const pragma of ["journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"]) raw.pragma(pragma);
  const prepared = new Map();
  const all = (sql, values) => {
    let statement = prepared.get(sql);
    if (!statement) prepared.set(sql, (statement = raw.prepare(sql)));
    return statement.reader ? statement.all(...values) : statement.run(...values);
  };
  let turn = Promise.resolve();
  const writing = (work) => {
    const done = turn.then(async () => {
      raw.exec("BEGIN IMMEDIATE");
      try {
        const result = await work(all);
        raw.exec("COMMIT");
        return result;
      } catch (error) {
        raw.exec("ROLLBACK");
        throw error;
      }
    });
    turn = done.catch(() => {});
    return done;
  };
  return { all, writing };
}

async function openPostgres(url) {
  const { default: pg } = await import("pg");
  pg.types.setTypeParser(20, Number);
  pg.types.setTypeParser(1082, (text) => text);
  const pool = new pg.Pool({ connectionString: url, max: 20 });
  const names = new Map();
  const on = (connection) => async (sql, values) => {
    let query = names.get(sql);
    if (!query) {
      let number = 0;
      const text = sql.replace(/\?/g, () => `$${++number}`);
      names.set(sql, (query = { name: `s${names.size}`, text }));
    }
    return (await connection.query({ ...query, values })).rows;
  };
  const writing = async (work) => {
    const connection = await pool.connect();
    try {
      await connection.query("BEGIN");
      const result = await work(on(connection));
      await connection.query("COMMIT");
      return result;
    } catch (error) {
      await connection.query("ROLLBACK");
      throw error;
    } finally {
      connection.release();
    }
  };
  return { all: on(pool), writing };
}

const database = sqlite
  ? await openSqlite(DATABASE_URL.slice("sqlite:///".length))
  : await openPostgres(DATABASE_URL.replace("+asyncpg", ""));

// SQLite keeps instants without a zone and amounts in cents.
const stored = (date) => (sqlite ? date.toISOString().slice(0, 19).replace("T", " ") + ".000000" : date);
const instant = (value) => (sqlite ? value.slice(0, 19).replace(" ", "T") + "Z" : value.toISOString().slice(0, 19) + "Z");
const money = (cents) => (sqlite ? cents : (cents / 100).toFixed(2));
const lock = sqlite ? "" : " FOR UPDATE";
const now = () => new Date(Math.floor(Date.now() / 1000) * 1000);

// --- who is calling, and how often ----------------------------------------------------------------------

const redis = new Redis(REDIS_URL.slice("unix://".length));
redis.defineCommand("hit", { numberOfKeys: 1, lua: readFileSync(`${SPECS}/count.lua`, "utf8") });

const find = (table, columns) =>
  `SELECT ${columns} FROM ${table} WHERE digest = ? AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)`;
const KEYS = find("api_keys", "id");
const TOKENS = find("tokens", "id, client_id");

async function identify(request, reply, policy, sql) {
  const secret = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  const [found] = await database.all(sql, [createHash("sha256").update(secret).digest("hex"), stored(new Date())]);
  if (!found) throw Object.assign(new Error("Authentication required"), { statusCode: 401 });
  request.caller = found;
  const [, remaining, wait] = await redis.hit(`${policy}:${found.id}`, LIMIT, 60000000, Number.MAX_SAFE_INTEGER);
  reply.headers({
    "x-ratelimit-limit": LIMIT,
    "x-ratelimit-remaining": remaining,
    "ratelimit-policy": `"${policy}";q=${LIMIT};w=60`,
    ratelimit: `"${policy}";r=${remaining};t=${Math.max(1, Math.ceil(wait / 1e6))}`,
  });
}

const security = {
  adminKey: (request, reply) => identify(request, reply, "admin", KEYS),
  clientToken: (request, reply) => identify(request, reply, "client", TOKENS),
  clientTokenQuery: () => {
    throw new Error("not here");
  },
};

// --- the operations -------------------------------------------------------------------------------------

const SERVICE = `SELECT s.id, s.client_id, s.product_id, p.name AS product_name, s.domain, s.username, s.status,
  s.billing_cycle, s.next_due_date, s.server_id, s.suspend_reason, s.created_at, s.version + p.version AS version
  FROM services s JOIN products p ON p.id = s.product_id`;
const PAGE = `${SERVICE} ORDER BY s.id DESC LIMIT ? OFFSET ?`;
const ONE = `${SERVICE} WHERE s.id = ?`;
const TOTAL = "SELECT count(*) AS total FROM services";
const CLIENT = `SELECT id FROM clients WHERE id = ?${lock}`;
const DEPARTMENT = "SELECT id FROM departments WHERE id = ? AND status = 'active'";
const TICKET = `INSERT INTO tickets
  (ticket_number, client_id, department_id, subject, message, status, priority, created_at, updated_at)
  VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?) RETURNING id`;
const INVOICE = `INSERT INTO invoices (client_id, status, total, currency, due_date, created_at)
  VALUES (?, 'unpaid', ?, 'USD', ?, ?) RETURNING id`;
const LINE = "INSERT INTO invoice_lines (invoice_id, description, amount) VALUES (?, ?, ?)";
const EVENT = "INSERT INTO events (uid, event, base, created_at) VALUES (?, ?, ?, ?)";

function view({ version, ...row }) {
  return { ...row, created_at: instant(row.created_at) };
}

async function existing(all, sql, id) {
  if ((await all(sql, [id])).length === 0) throw Object.assign(new Error("Resource not found"), { statusCode: 404 });
}

function happened(all, event, data, at) {
  const base = JSON.stringify({ event, timestamp: at, data });
  return all(EVENT, [`evt_${randomBytes(13).toString("hex")}`, event, base, stored(at)]);
}

const cents = (amount) => Math.round(Number(amount) * 100);

const operations = {
  async list_services(request, reply) {
    const { page = 1, limit = 20 } = request.query;
    const rows = await database.all(PAGE, [limit, (page - 1) * limit]);
    const [{ total }] = await database.all(TOTAL, []);
    if (page * limit < total) reply.header("link", `</api/v1/services?limit=${limit}&after=${rows.at(-1).id}>; rel="next"`);
    const meta = { page, limit, total, pages: Math.ceil(total / limit) };
    return { status: "success", data: rows.map(view), meta };
  },
  async get_service(request, reply) {
    const [row] = await database.all(ONE, [request.params.id]);
    if (!row) throw Object.assign(new Error("Resource not found"), { statusCode: 404 });
    reply.header("etag", `"${row.version}"`);
    return { status: "success", data: view(row) };
  },
  async create_ticket(request, reply) {
    const { subject, message, department_id, priority_id = 2 } = request.body;
    const owner = request.caller.client_id;
    const number = `TKT-${randomBytes(4).toString("hex").toUpperCase()}`;
    const at = now();
    const id = await database.writing(async (all) => {
      await existing(all, CLIENT, owner);
      await existing(all, DEPARTMENT, department_id);
      const priority = PRIORITIES[priority_id];
      const values = [number, owner, department_id, subject, message, priority, stored(at), stored(at)];
      const [made] = await all(TICKET, values);
      await happened(all, "ticket.opened", { id: made.id, ticket_number: number, subject, message, priority }, at);
      return made.id;
    });
    reply.code(201);
    return { success: true, ticket_id: id, ticket_number: number };
  },
  async create_invoice(request, reply) {
    const { client_id, due_date, items } = request.body;
    const at = now();
    const total = items.reduce((sum, item) => sum + cents(item.amount), 0);
    const text = (total / 100).toFixed(2);
    const id = await database.writing(async (all) => {
      await existing(all, CLIENT, client_id);
      const [made] = await all(INVOICE, [client_id, money(total), due_date, stored(at)]);
      for (const item of items) await all(LINE, [made.id, item.description, money(cents(item.amount))]);
      await happened(all, "invoice.created", { id: made.id, client_id, total: text, currency: "USD" }, at);
      return made.id;
    });
    reply.code(201);
    const data = {
      id,
      invoice_number: `INV-${String(id).padStart(6, "0")}`,
      client_id,
      status: "unpaid",
      total: text,
      currency: "USD",
      due_date,
      paid_at: null,
      created_at: at.toISOString().slice(0, 19) + "Z",
      items: items.map((item) => ({ description: item.description, amount: (cents(item.amount) / 100).toFixed(2) })),
    };
    return { status: "success", data };
  },
};

// --- the server -----------------------------------------------------------------------------------------

const app = Fastify({
  logger: { stream: pino.destination({ dest: 1, sync: false, minLength: 4096 }) },
  disableRequestLogging: true,
  genReqId: () => randomBytes(8).toString("hex"),
});
// Texts of a path or a query become numbers; what a body has is what it is, as the contract says.
const [judging, coercing] = [false, "array"].map((coerceTypes) => formats(new Ajv({ strict: false, coerceTypes, useDefaults: true })));
app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === "body" ? judging : coercing).compile(schema));
app.decorateRequest("caller", null);
app.addHook("onRequest", async (request, reply) => {
  reply.headers({ "x-request-id": request.id, "cache-control": "no-store", "x-content-type-options": "nosniff" });
});
app.addHook("onResponse", async (request, reply) => {
  request.log.info({ operation: request.routeOptions.url, status: reply.statusCode, ms: reply.elapsedTime }, "request");
});
app.get("/api/v1/status", async () => ({}));
for (const audience of ["admin", "client"]) {
  await app.register(glue, {
    specification: JSON.parse(readFileSync(`${SPECS}/${audience}.json`, "utf8")),
    serviceHandlers: operations,
    securityHandlers: security,
    prefix: "api/v1",
  });
}
await app.listen({ port: Number(process.argv[2]), host: "127.0.0.1" });
process.on("SIGTERM", () => process.exit(0));
