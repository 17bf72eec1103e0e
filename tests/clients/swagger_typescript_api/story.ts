// The story of every client, with the clients that swagger-typescript-api makes for fetch.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as admin from "./cloudarc-admin";
import * as client from "./cloudarc-client";

const given = (name: string): string => process.env[`CLOUDARC_${name}`] ?? assert.fail(`CLOUDARC_${name} is missing`);
const [URL, LIMITED, TOKEN, KEY] = ["URL", "LIMITED", "TOKEN", "KEY"].map(given) as [string, string, string, string];
const NOWHERE = Number.MAX_SAFE_INTEGER;
const bearer = (secret: string) => ({ headers: { Authorization: `Bearer ${secret}` } });

async function step(name: string, work: () => Promise<void>): Promise<void> {
  const start = performance.now();
  await work();
  console.log(name, Math.round(performance.now() - start));
}

/** The answer of a call that is refused: it is thrown, with the model of the error in it. */
async function refused<Told>(call: Promise<unknown>, status: number): Promise<client.HttpResponse<unknown, Told>> {
  const answer: unknown = await call.then(() => assert.fail(`not ${status}`), (each: unknown) => each);
  assert(answer instanceof Response, String(answer));
  assert.equal(answer.status, status);
  return answer as client.HttpResponse<unknown, Told>;
}

async function main(): Promise<void> {
  // The first call:
  const api = new client.Api({ baseUrl: URL, baseApiParams: { headers: { Authorization: `Bearer ${TOKEN}` } } });
  const { data: services } = await api.services.listServices();
  for (const service of services.data) {
    console.log("#", service.product_name, service.status);
  }
  // Until here.
  const operator = new admin.Api({ baseUrl: URL, baseApiParams: bearer(KEY) });
  const items: admin.InvoiceLineInput[] = [19.99, 4.35].map((amount) => ({ description: "Hosting", amount }));
  let invoice = 0;

  await step("authorise", async () => {
    assert.equal((await api.profile.getProfile()).data.id, 42);
    await refused(api.services.listServices({}, bearer("nobody")), 401);
  });
  await step("list", async () => {
    assert.deepEqual(services.data.map((row) => row.product_name), ["Business Hosting"]);
  });
  await step("page", async () => {
    const first = (await operator.invoices.listInvoices({ limit: 2 })).data;
    const after = first.data.at(-1)?.id ?? assert.fail("empty");
    const second = (await operator.invoices.listInvoices({ limit: 2, after: String(after) })).data;
    assert(first.data.length === 2 && second.data.length === 2 && first.meta.total > 4);
    assert(second.data.every((row) => row.id < after));
  });
  await step("create", async () => {
    const opened = await api.tickets.createTicket({ subject: "Grüße", message: "Hello", department_id: 1 });
    assert.equal((await api.tickets.getTicket(opened.data.ticket_id)).data.subject, "Grüße");
    const wanted = { client_id: 56, due_date: "2035-01-31", items };
    const made = (await operator.invoices.createInvoice(wanted)).data.data;
    assert.deepEqual([made.total, made.due_date], ["24.34", "2035-01-31"]);
    invoice = made.id;
  });
  await step("instant", async () => {
    const now = new Date();
    const expires = new Date(now.getTime() + 365 * 86_400_000);
    const dates = { registered_at: now.toISOString(), expires_at: expires.toISOString() };
    const name = { client_id: 56, domain: "swagger-typescript-api.example.com", ...dates };
    const domain = (await operator.domains.createDomain(name)).data.data;
    assert.equal(Date.parse(domain.registered_at), now.getTime() - now.getMilliseconds());
    assert.equal(Date.parse(domain.expires_at), expires.getTime() - expires.getMilliseconds());
    const id = (await operator.webhooks.listWebhooks()).data.data[0]?.id ?? assert.fail("no webhook");
    const recovery = await operator.webhooks.recoverWebhook(id, { since: dates.registered_at });
    assert.equal(recovery.data.data.webhook_id, id);
  });
  await step("unchanged", async () => {
    const tag = (await operator.invoices.getInvoice(invoice)).headers.get("ETag") ?? assert.fail("no tag");
    await refused(operator.invoices.getInvoice(invoice, { headers: { "If-None-Match": tag } }), 304);
  });
  await step("not_found", async () => {
    const missing = await refused<client.ClientError>(api.tickets.getTicket(NOWHERE), 404);
    assert.equal(missing.error.code, 404);
    const absent = await refused<admin.AdminError>(operator.invoices.getInvoice(NOWHERE), 404);
    assert.equal(absent.error.error.code, "NOT_FOUND");
  });
  await step("invalid", async () => {
    // @ts-expect-error The compiler checks what is required; who goes around it is told by the server.
    const ticket = api.tickets.createTicket({ subject: "Help", department_id: 1 });
    const told = await refused<client.ClientValidationError>(ticket, 422);
    assert.deepEqual(told.error.details.map((fault) => fault.pointer), ["/message"]);
    // @ts-expect-error
    const wanted = operator.invoices.createInvoice({ due_date: "2035-01-31", items });
    const denied = await refused<admin.AdminValidationError>(wanted, 400);
    assert.deepEqual(denied.error.error.details.map((fault) => fault.pointer), ["/client_id"]);
  });
  await step("limited", async () => {
    const hasty = new admin.Api({ baseUrl: LIMITED, baseApiParams: bearer(KEY) });
    const calls = async () => { for (let call = 0; call < 20; call++) await hasty.departments.listDepartments(); };
    const answer = await refused<admin.AdminError>(calls(), 429);
    assert.equal(answer.error.error.code, "RATE_LIMITED");
    assert(Number(answer.headers.get("Retry-After")) >= 1);
  });
  await step("webhook", async () => {
    const event = JSON.parse(readFileSync(given("DELIVERY"), "utf8")) as admin.InvoicePaidEvent;
    assert.deepEqual([event.event, event.data.total], ["invoice.paid", "29.99"]);
    const [record] = (await operator.events.listEvents({ type: admin.EventName.INVOICE_PAID })).data.data;
    assert(record?.event === admin.EventName.INVOICE_PAID && record.data.total);
  });
}

void main();
