// The story of every client, with the clients that openapi-generator makes for fetch.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as admin from "./cloudarc-admin";
import * as client from "./cloudarc-client";

const given = (name: string): string => process.env[`CLOUDARC_${name}`] ?? assert.fail(`CLOUDARC_${name} is missing`);
const [URL, LIMITED, TOKEN, KEY] = ["URL", "LIMITED", "TOKEN", "KEY"].map(given) as [string, string, string, string];
const NOWHERE = Number.MAX_SAFE_INTEGER;

async function step(name: string, work: () => Promise<void>): Promise<void> {
  const start = performance.now();
  await work();
  console.log(name, Math.round(performance.now() - start));
}

async function refused(call: Promise<unknown>, status: number): Promise<Response> {
  const error: unknown = await call.then(() => assert.fail(`not ${status}`), (each: unknown) => each);
  assert(error instanceof client.ResponseError || error instanceof admin.ResponseError, String(error));
  assert.equal(error.response.status, status);
  return error.response;
}

async function main(): Promise<void> {
  // The first call:
  const api = new client.Configuration({ basePath: URL, accessToken: TOKEN });
  const services = await new client.ServicesApi(api).listServices();
  for (const service of services.data) {
    console.log("#", service.productName, service.status);
  }
  // Until here.
  const operator = new admin.Configuration({ basePath: URL, accessToken: KEY });
  const tickets = new client.TicketsApi(api);
  const invoices = new admin.InvoicesApi(operator);
  let invoice = 0;
  const items: admin.InvoiceLineInput[] = [19.99, 4.35].map((amount) => ({ description: "Hosting", amount }));

  await step("authorise", async () => {
    assert.equal((await new client.ProfileApi(api).getProfile()).id, 42);
    const stranger = new client.Configuration({ basePath: URL, accessToken: "nobody" });
    await refused(new client.ServicesApi(stranger).listServices(), 401);
  });
  await step("list", async () => {
    assert.deepEqual(services.data.map((row) => row.productName), ["Business Hosting"]);
  });
  await step("page", async () => {
    const first = await invoices.listInvoices({ limit: 2 });
    const last = first.data.at(-1) ?? assert.fail("empty");
    const second = await invoices.listInvoices({ limit: 2, after: String(last.id) });
    assert(first.data.length === 2 && second.data.length === 2 && first.meta.total > 4);
    assert(second.data.every((row) => row.id < last.id));
  });
  await step("create", async () => {
    const wanted: client.ClientTicketInput = { subject: "Grüße", message: "Hello", departmentId: 1 };
    const opened = await tickets.createTicket({ clientTicketInput: wanted });
    assert.equal((await tickets.getTicket({ id: opened.ticketId })).subject, "Grüße");
    const invoiceInput = { clientId: 56, dueDate: new Date("2035-01-31"), items };
    const made = await invoices.createInvoice({ invoiceInput });
    assert.equal(made.data.total, "24.34");
    assert.equal(made.data.dueDate.toISOString().slice(0, 10), "2035-01-31");
    invoice = made.data.id;
  });
  await step("instant", async () => {
    const now = new Date();
    const year = 365 * 86_400_000;
    const expiresAt = new Date(now.getTime() + year);
    const domainInput = { clientId: 56, domain: "typescript-fetch.example.com", registeredAt: now, expiresAt };
    const domain = (await new admin.DomainsApi(operator).createDomain({ domainInput })).data;
    assert.equal(domain.registeredAt.getTime(), now.getTime() - now.getMilliseconds());
    assert.equal(domain.expiresAt.getTime() - domain.registeredAt.getTime(), year);
    const webhooks = new admin.WebhooksApi(operator);
    const { id } = (await webhooks.listWebhooks()).data[0] ?? assert.fail("no webhook");
    const recovery = await webhooks.recoverWebhook({ id, webhookRecoverInput: { since: now } });
    assert.equal(recovery.data.webhookId, id);
  });
  await step("unchanged", async () => {
    const ifNoneMatch = (await invoices.getInvoiceRaw({ id: invoice })).raw.headers.get("ETag") ?? assert.fail("no tag");
    await refused(invoices.getInvoice({ id: invoice, ifNoneMatch }), 304);
  });
  await step("not_found", async () => {
    const missing = client.ClientErrorFromJSON(await (await refused(tickets.getTicket({ id: NOWHERE }), 404)).json());
    assert.equal(missing.code, 404);
    const absent = admin.AdminErrorFromJSON(await (await refused(invoices.getInvoice({ id: NOWHERE }), 404)).json());
    assert.equal(absent.error.code, admin.ErrorCode.NotFound);
  });
  await step("invalid", async () => {
    // The compiler checks what is required; who goes around it is told by the server.
    const clientTicketInput = { subject: "Help", departmentId: 1 } as client.ClientTicketInput;
    const told = await (await refused(tickets.createTicket({ clientTicketInput }), 422)).json();
    assert.deepEqual(client.ClientValidationErrorFromJSON(told).details.map((fault) => fault.pointer), ["/message"]);
    const invoiceInput = { dueDate: new Date("2035-01-31"), items } as admin.InvoiceInput;
    const denied = await (await refused(invoices.createInvoice({ invoiceInput }), 400)).json();
    const { details } = admin.AdminValidationErrorFromJSON(denied).error;
    assert.deepEqual(details.map((fault) => fault.pointer), ["/client_id"]);
  });
  await step("limited", async () => {
    const hasty = new admin.DepartmentsApi(new admin.Configuration({ basePath: LIMITED, accessToken: KEY }));
    const calls = async () => { for (let call = 0; call < 20; call++) await hasty.listDepartments(); };
    const response = await refused(calls(), 429);
    assert.equal(admin.AdminErrorFromJSON(await response.json()).error.code, admin.ErrorCode.RateLimited);
    assert(Number(response.headers.get("Retry-After")) >= 1);
  });
  await step("webhook", async () => {
    const event = admin.InvoicePaidEventFromJSON(JSON.parse(readFileSync(given("DELIVERY"), "utf8")));
    assert.deepEqual([event.event, event.data.total], ["invoice.paid", "29.99"]);
    const [record] = (await new admin.EventsApi(operator).listEvents({ type: "invoice.paid" })).data;
    assert(record?.event === "invoice.paid" && record.data.total);
  });
}

void main();
