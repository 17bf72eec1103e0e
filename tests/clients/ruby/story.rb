# The story of every client, with the clients that openapi-generator makes for Ruby.
require "date"
require "json"
require "uri"
require "cloudarc_admin"
require "cloudarc_client"

URL, LIMITED, TOKEN, KEY, DELIVERY = %w[URL LIMITED TOKEN KEY DELIVERY].map { |name| ENV.fetch("CLOUDARC_#{name}") }
NOWHERE = 9_007_199_254_740_991

def check(good, what = nil)
  raise "not as expected: #{what.inspect}" unless good
end

def step(name)
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC, :millisecond)
  yield
  puts "#{name} #{Process.clock_gettime(Process::CLOCK_MONOTONIC, :millisecond) - start}"
end

def refused(status)
  yield
rescue Client::ApiError, Admin::ApiError => e
  check(e.code == status, e)
  e
else
  raise "not #{status}"
end

# An error holds its body as text; the models are made of it.
def told(error, model)
  model.build_from_hash(JSON.parse(error.response_body, symbolize_names: true))
end

def at(dialect, url, secret)
  place = URI(url)
  config = dialect::Configuration.new
  config.scheme, config.host, config.base_path = place.scheme, "#{place.host}:#{place.port}", place.path
  config.access_token = secret
  dialect::ApiClient.new(config)
end

Admin, Client = CloudArcAdmin, CloudArcClient
place, token = URI(URL), TOKEN

# The first call:
config = CloudArcClient::Configuration.new
config.scheme, config.host, config.base_path = place.scheme, "#{place.host}:#{place.port}", place.path
config.access_token = token
services = CloudArcClient::ServicesApi.new(CloudArcClient::ApiClient.new(config)).list_services
services.data.each { |service| puts "# #{service.product_name} #{service.status}" }
# Until here.
api, operator = at(Client, URL, TOKEN), at(Admin, URL, KEY)
tickets, invoices = Client::TicketsApi.new(api), Admin::InvoicesApi.new(operator)
lines = [19.99, 4.35].map { |amount| Admin::InvoiceLineInput.new(description: "Hosting", amount: amount) }
due = Date.new(2035, 1, 31)
made = nil

step("authorise") do
  check(Client::ProfileApi.new(api).get_profile.id == 42)
  refused(401) { Client::ServicesApi.new(at(Client, URL, "nobody")).list_services }
end
step("list") { check(services.data.map(&:product_name) == ["Business Hosting"], services) }
step("page") do
  first = invoices.list_invoices(limit: 2)
  second = invoices.list_invoices(limit: 2, after: first.data.last.id.to_s)
  check(first.data.size == 2 && second.data.size == 2 && first.meta.total > 4, first)
  check(second.data.first.id < first.data.last.id, second)
end
step("create") do
  wanted = Client::ClientTicketInput.new(subject: "Grüße", message: "Hello", department_id: 1)
  opened = tickets.create_ticket(wanted)
  check(tickets.get_ticket(opened.ticket_id).subject == "Grüße")
  made = invoices.create_invoice(Admin::InvoiceInput.new(client_id: 56, due_date: due, items: lines)).data
  check(made.total == "24.34" && made.due_date == due, made)
end
step("instant") do
  now = DateTime.now
  dates = { registered_at: now, expires_at: now >> 12 }
  wanted = Admin::DomainInput.new(client_id: 56, domain: "ruby.example.com", **dates)
  domain = Admin::DomainsApi.new(operator).create_domain(wanted).data
  check(domain.registered_at.to_i == now.to_time.to_i && domain.expires_at.to_i == (now >> 12).to_time.to_i, domain)
  webhooks = Admin::WebhooksApi.new(operator)
  id = webhooks.list_webhooks.data.first.id
  check(webhooks.recover_webhook(id, Admin::WebhookRecoverInput.new(since: now)).data.webhook_id == id)
end
step("unchanged") do
  _, _, headers = invoices.get_invoice_with_http_info(made.id)
  refused(304) { invoices.get_invoice(made.id, if_none_match: headers["ETag"]) }
end
step("not_found") do
  missing = told(refused(404) { tickets.get_ticket(NOWHERE) }, Client::ClientError)
  check(missing.code == 404, missing)
  absent = told(refused(404) { invoices.get_invoice(NOWHERE) }, Admin::AdminError)
  check(absent.error.code == Admin::ErrorCode::NOT_FOUND, absent)
end
step("invalid") do
  # The models check what is required; who goes around them is told by the server.
  body = { subject: "Help", department_id: 1 }.to_json
  error = refused(422) { tickets.create_ticket(Client::ClientTicketInput.allocate, debug_body: body) }
  check(told(error, Client::ClientValidationError).details.map(&:pointer) == ["/message"], error)
  body = { due_date: due, items: lines.map(&:to_hash) }.to_json
  error = refused(400) { invoices.create_invoice(Admin::InvoiceInput.allocate, debug_body: body) }
  check(told(error, Admin::AdminValidationError).error.details.map(&:pointer) == ["/client_id"], error)
end
step("limited") do
  hasty = Admin::DepartmentsApi.new(at(Admin, LIMITED, KEY))
  error = refused(429) { 20.times { hasty.list_departments } }
  check(told(error, Admin::AdminError).error.code == Admin::ErrorCode::RATE_LIMITED, error)
  check(error.response_headers["Retry-After"].to_i >= 1, error)
end
step("webhook") do
  event = Admin::InvoicePaidEvent.build_from_hash(JSON.parse(File.read(DELIVERY), symbolize_names: true))
  check(event.event == "invoice.paid" && event.data.total == "29.99", event)
  record = Admin::EventsApi.new(operator).list_events(type: Admin::EventName::INVOICE_PAID).data.first
  check(record.event == "invoice.paid" && record.data["total"], record)
end
