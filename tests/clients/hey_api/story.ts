// The story of every client, with the clients that hey-api makes for fetch.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as admin from "./cloudarc-admin";
import { createClient as createAdmin } from "./cloudarc-admin/client";
import * as client from "./cloudarc-client";
import { createClient } from "./cloudarc-client/client";

const given = (name: string): string => process.env[`CLOUDARC_${name}`] ?? assert.fail(`CLOUDARC_${name} is missing`);
const [URL, LIMITED, TOKEN, KEY] = ["URL", "LIMITED", "TOKEN", "KEY"].map(given) as [string, string, string, string];
const NOWHERE = Number.MAX_SAFE_INTEGER;

async function step(name: string, work: () => Promise<void>): Promise<void> {
  const start = performance.now();
  await work();
  console.log(name, Math.round(performance.now() - start));
}

async function main(): Promise<void> {
  // The first call:
  const api = createClient({ baseUrl: URL, auth: TOKEN });
  const { data: services } = await client.listServices({ client: api });
  for (const service of services?.data ?? []) {
    console.log("#", service.product_name, service.status);
  }
  // Until here.
  const operator = createAdmin({ baseUrl: URL, auth: KEY });
  const items: admin.InvoiceLineInput[] = [19.99, 4.35].map((amount) => ({ description: "Hosting", amount }));
  let invoice = 0;

  await step("authorise", async () => {
    assert.equal((await client.getProfile({ client: api })).data?.id, 42);
    const stranger = createClient({ baseUrl: URL, auth: "nobody" });
    const { response, error } = await client.listServices({ client: stranger });
    assert(response?.status === 401 && error);
  });
  await step("list", async () => {
    assert.deepEqual(services?.data.map((row) => row.product_name), ["Business Hosting"]);
  });
  await step("page", async () => {
    const first = (await admin.listInvoices({ client: operator, query: { limit: 2 } })).data;
    const after = first?.data.at(-1)?.id ?? assert.fail("empty");
    const second = (await admin.listInvoices({ client: operator, query: { limit: 2, after: String(after) } })).data;
    assert(first?.data.length === 2 && second?.data.length === 2 && first.meta.total > 4);
    assert(second.data.every((row) => row.id < after));
  });
  await step("create", async () => {
    const body = { subject: "Grüße", message: "Hello", department_id: 1 };
    const opened = (await client.createTicket({ client: api, body })).data ?? assert.fail("no ticket");
    const ticket = await client.getTicket({ client: api, path: { id: opened.ticket_id } });
    assert.equal(ticket.data?.subject, "Grüße");
    const wanted = { client_id: 56, due_date: "2035-01-31", items };
    const made = (await admin.createInvoice({ client: operator, body: wanted })).data?.data;
    assert.deepEqual([made?.total, made?.due_date], ["24.34", "2035-01-31"]);
    invoice = made?.id ?? assert.fail("no invoice");
  });
  await step("instant", async () => {
    const now = new Date();
    const expires = new Date(now.getTime() + 365 * 86_400_000);
    const dates = { registered_at: now.toISOString(), expires_at: expires.toISOString() };
    const body = { client_id: 56, domain: "hey-api.example.com", ...dates };
    const domain = (await admin.createDomain({ client: operator, body })).data?.data ?? assert.fail("no domain");
    assert.equal(Date.parse(domain.registered_at), now.getTime() - now.getMilliseconds());
    assert.equal(Date.parse(domain.expires_at), expires.getTime() - expires.getMilliseconds());
    const id = (await admin.listWebhooks({ client: operator })).data?.data[0]?.id ?? assert.fail("no webhook");
    const since = { since: dates.registered_at };
    const recovery = await admin.recoverWebhook({ client: operator, path: { id }, body: since });
    assert.equal(recovery.data?.data.webhook_id, id);
  });
  await step("unchanged", async () => {
    const path = { id: invoice };
    const { response } = await admin.getInvoice({ client: operator, path });
    const headers = { "If-None-Match": response?.headers.get("ETag") ?? assert.fail("no tag") };
    assert.equal((await admin.getInvoice({ client: operator, path, headers })).response?.status, 304);
  });
  await step("not_found", async () => {
    const path = { id: NOWHERE };
    const missing = await client.getTicket({ client: api, path });
    assert(missing.response?.status === 404 && missing.error && "code" in missing.error);
    assert.equal(missing.error.code, 404);
    const absent = await admin.getInvoice({ client: operator, path });
    assert(absent.response?.status === 404 && absent.error && "status" in absent.error);
    assert.equal(absent.error.error.code, "NOT_FOUND");
  });
  await step("invalid", async () => {
    // @ts-expect-error The compiler checks what is required; who goes around it is told by the server.
    const told = await client.createTicket({ client: api, body: { subject: "Help", department_id: 1 } });
    assert(told.response?.status === 422 && told.error && "details" in told.error);
    assert.deepEqual(told.error.details.map((fault) => fault.pointer), ["/message"]);
    // @ts-expect-error
    const denied = await admin.createInvoice({ client: operator, body: { due_date: "2035-01-31", items } });
    assert(denied.response?.status === 400 && denied.error && "status" in denied.error);
    assert("details" in denied.error.error);
    assert.deepEqual(denied.error.error.details.map((fault) => fault.pointer), ["/client_id"]);
  });
  await step("limited", async () => {
    const hasty = createAdmin({ baseUrl: LIMITED, auth: KEY });
    let answer = await admin.listDepartments({ client: hasty });
    for (let call = 0; call < 20 && !answer.error; call++) answer = await admin.listDepartments({ client: hasty });
    assert(answer.response?.status === 429 && answer.error && "status" in answer.error);
    assert.equal(answer.error.error.code, "RATE_LIMITED");
    assert(Number(answer.response.headers.get("Retry-After")) >= 1);
  });
  await step("webhook", async () => {
    const event = JSON.parse(readFileSync(given("DELIVERY"), "utf8")) as admin.InvoicePaidEvent;
    assert.deepEqual([event.event, event.data.total], ["invoice.paid", "29.99"]);
    const page = (await admin.listEvents({ client: operator, query: { type: "invoice.paid" } })).data;
    const record = page?.data[0];
    assert(record?.event === "invoice.paid" && record.data.total);
  });
}

void main();
