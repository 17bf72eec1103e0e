// The story of every client, with openapi-fetch and the types that openapi-typescript makes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths as AdminPaths, webhooks } from "./cloudarc-admin";
import type { paths as ClientPaths } from "./cloudarc-client";

type Schemas = components["schemas"];
type InvoicePaid = webhooks["invoice.paid"]["post"]["requestBody"]["content"]["application/json"];

const given = (name: string): string => process.env[`CLOUDARC_${name}`] ?? assert.fail(`CLOUDARC_${name} is missing`);
const [URL, LIMITED, TOKEN, KEY] = ["URL", "LIMITED", "TOKEN", "KEY"].map(given) as [string, string, string, string];
const NOWHERE = Number.MAX_SAFE_INTEGER;
const bearer = (secret: string) => ({ Authorization: `Bearer ${secret}` });

async function step(name: string, work: () => Promise<void>): Promise<void> {
  const start = performance.now();
  await work();
  console.log(name, Math.round(performance.now() - start));
}

async function main(): Promise<void> {
  // The first call:
  const api = createClient<ClientPaths>({ baseUrl: URL, headers: { Authorization: `Bearer ${TOKEN}` } });
  const { data: services } = await api.GET("/services");
  for (const service of services?.data ?? []) {
    console.log("#", service.product_name, service.status);
  }
  // Until here.
  const operator = createClient<AdminPaths>({ baseUrl: URL, headers: bearer(KEY) });
  const items: Schemas["InvoiceLineInput"][] = [19.99, 4.35].map((amount) => ({ description: "Hosting", amount }));
  let invoice = 0;

  await step("authorise", async () => {
    assert.equal((await api.GET("/profile")).data?.id, 42);
    const { response, error } = await api.GET("/profile", { headers: bearer("nobody") });
    assert(response.status === 401 && error);
  });
  await step("list", async () => {
    assert.deepEqual(services?.data.map((row) => row.product_name), ["Business Hosting"]);
  });
  await step("page", async () => {
    const first = (await operator.GET("/invoices", { params: { query: { limit: 2 } } })).data;
    const after = first?.data.at(-1)?.id ?? assert.fail("empty");
    const second = (await operator.GET("/invoices", { params: { query: { limit: 2, after: String(after) } } })).data;
    assert(first?.data.length === 2 && second?.data.length === 2 && first.meta.total > 4);
    assert(second.data.every((row) => row.id < after));
  });
  await step("create", async () => {
    const body = { subject: "Grüße", message: "Hello", department_id: 1 };
    const opened = (await api.POST("/tickets", { body })).data ?? assert.fail("no ticket");
    const ticket = await api.GET("/tickets/{id}", { params: { path: { id: opened.ticket_id } } });
    assert.equal(ticket.data?.subject, "Grüße");
    const made = await operator.POST("/invoices", { body: { client_id: 56, due_date: "2035-01-31", items } });
    assert.deepEqual([made.data?.data.total, made.data?.data.due_date], ["24.34", "2035-01-31"]);
    invoice = made.data?.data.id ?? assert.fail("no invoice");
  });
  await step("instant", async () => {
    const now = new Date();
    const expires = new Date(now.getTime() + 365 * 86_400_000);
    const dates = { registered_at: now.toISOString(), expires_at: expires.toISOString() };
    const body = { client_id: 56, domain: "openapi-typescript.example.com", ...dates };
    const domain = (await operator.POST("/domains", { body })).data?.data ?? assert.fail("no domain");
    assert.equal(Date.parse(domain.registered_at), now.getTime() - now.getMilliseconds());
    assert.equal(Date.parse(domain.expires_at), expires.getTime() - expires.getMilliseconds());
    const id = (await operator.GET("/webhooks")).data?.data[0]?.id ?? assert.fail("no webhook");
    const since = { params: { path: { id } }, body: { since: dates.registered_at } };
    assert.equal((await operator.POST("/webhooks/{id}/recover", since)).data?.data.webhook_id, id);
  });
  await step("unchanged", async () => {
    const path = { id: invoice };
    const { response } = await operator.GET("/invoices/{id}", { params: { path } });
    const header = { "If-None-Match": response.headers.get("ETag") ?? assert.fail("no tag") };
    assert.equal((await operator.GET("/invoices/{id}", { params: { path, header } })).response.status, 304);
  });
  await step("not_found", async () => {
    const path = { id: NOWHERE };
    const missing = await api.GET("/tickets/{id}", { params: { path } });
    assert(missing.response.status === 404 && missing.error && "code" in missing.error);
    assert.equal(missing.error.code, 404);
    const absent = await operator.GET("/invoices/{id}", { params: { path } });
    assert(absent.response.status === 404 && absent.error && "status" in absent.error);
    assert.equal(absent.error.error.code, "NOT_FOUND");
  });
  await step("invalid", async () => {
    // @ts-expect-error The compiler checks what is required; who goes around it is told by the server.
    const told = await api.POST("/tickets", { body: { subject: "Help", department_id: 1 } });
    assert(told.response.status === 422 && told.error && "details" in told.error);
    assert.deepEqual(told.error.details.map((fault) => fault.pointer), ["/message"]);
    // @ts-expect-error
    const denied = await operator.POST("/invoices", { body: { due_date: "2035-01-31", items } });
    assert(denied.response.status === 400 && denied.error && "status" in denied.error);
    assert("details" in denied.error.error);
    assert.deepEqual(denied.error.error.details.map((fault) => fault.pointer), ["/client_id"]);
  });
  await step("limited", async () => {
    const hasty = createClient<AdminPaths>({ baseUrl: LIMITED, headers: bearer(KEY) });
    let answer = await hasty.GET("/departments");
    for (let call = 0; call < 20 && !answer.error; call++) answer = await hasty.GET("/departments");
    assert(answer.response.status === 429 && answer.error && "status" in answer.error);
    assert.equal(answer.error.error.code, "RATE_LIMITED");
    assert(Number(answer.response.headers.get("Retry-After")) >= 1);
  });
  await step("webhook", async () => {
    const event = JSON.parse(readFileSync(given("DELIVERY"), "utf8")) as InvoicePaid;
    assert.deepEqual([event.event, event.data.total], ["invoice.paid", "29.99"]);
    const [record] = (await operator.GET("/events", { params: { query: { type: "invoice.paid" } } })).data?.data ?? [];
    assert(record?.event === "invoice.paid" && record.data.total);
  });
}

void main();
