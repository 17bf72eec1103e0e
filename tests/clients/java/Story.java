// The story of every client, with the clients that openapi-generator makes for Java's own HttpClient.
import cloudarc.admin.api.DepartmentsApi;
import cloudarc.admin.api.DomainsApi;
import cloudarc.admin.api.EventsApi;
import cloudarc.admin.api.InvoicesApi;
import cloudarc.admin.api.WebhooksApi;
import cloudarc.admin.model.AdminError;
import cloudarc.admin.model.AdminInvoiceResponse;
import cloudarc.admin.model.AdminValidationError;
import cloudarc.admin.model.DomainInput;
import cloudarc.admin.model.ErrorCode;
import cloudarc.admin.model.EventName;
import cloudarc.admin.model.InvoiceInput;
import cloudarc.admin.model.InvoiceLineInput;
import cloudarc.admin.model.InvoicePaidEvent;
import cloudarc.admin.model.InvoicePaidEventName;
import cloudarc.admin.model.WebhookRecoverInput;
import cloudarc.client.ApiClient;
import cloudarc.client.ApiException;
import cloudarc.client.api.ProfileApi;
import cloudarc.client.api.ServicesApi;
import cloudarc.client.api.TicketsApi;
import cloudarc.client.model.ClientError;
import cloudarc.client.model.ClientServiceList;
import cloudarc.client.model.ClientTicketInput;
import cloudarc.client.model.ClientValidationError;
import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.stream.Stream;

class Story {
    static final long NOWHERE = 9007199254740991L;
    static final ObjectMapper JSON = ApiClient.createDefaultObjectMapper();

    /** Loses a member: the models write what is required even where it is not set. */
    @JsonIgnoreProperties("message")
    interface NoMessage {}

    @JsonIgnoreProperties("client_id")
    interface NoClient {}

    interface Work {
        void run() throws Exception;
    }

    static void check(boolean good, Object what) {
        if (!good) {
            throw new AssertionError("not as expected: " + what);
        }
    }

    static void step(String name, Work work) throws Exception {
        long start = System.nanoTime();
        work.run();
        System.out.println(name + " " + (System.nanoTime() - start) / 1_000_000);
    }

    static ApiException refused(Work call, int status) throws Exception {
        try {
            call.run();
        } catch (ApiException error) {
            check(error.getCode() == status, error);
            return error;
        }
        throw new AssertionError("not " + status);
    }

    static cloudarc.admin.ApiException denied(Work call, int status) throws Exception {
        try {
            call.run();
        } catch (cloudarc.admin.ApiException error) {
            check(error.getCode() == status, error);
            return error;
        }
        throw new AssertionError("not " + status);
    }

    static ApiClient clientAt(String url, String token) {
        ApiClient api = new ApiClient();
        api.updateBaseUri(url);
        api.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + token));
        return api;
    }

    static cloudarc.admin.ApiClient adminAt(String url, String key) {
        cloudarc.admin.ApiClient api = new cloudarc.admin.ApiClient();
        api.updateBaseUri(url);
        api.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + key));
        return api;
    }

    public static void main(String[] arguments) throws Exception {
        String url = System.getenv("CLOUDARC_URL"), token = System.getenv("CLOUDARC_TOKEN");
        String limited = System.getenv("CLOUDARC_LIMITED"), key = System.getenv("CLOUDARC_KEY");
        // The first call:
        ApiClient api = new ApiClient();
        api.updateBaseUri(url);
        api.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + token));
        ClientServiceList services = new ServicesApi(api).listServices(null);
        services.getData().forEach(each -> System.out.println("# " + each.getProductName() + " " + each.getStatus()));
        // Until here.
        TicketsApi tickets = new TicketsApi(api);
        var operator = adminAt(url, key);
        InvoicesApi invoices = new InvoicesApi(operator);
        List<InvoiceLineInput> lines = Stream.of(19.99, 4.35)
            .map(amount -> new InvoiceLineInput().description("Hosting").amount(amount))
            .toList();
        LocalDate due = LocalDate.of(2035, 1, 31);
        InvoiceInput invoice = new InvoiceInput().clientId(56L).dueDate(due).items(lines);

        step("authorise", () -> {
            check(new ProfileApi(api).getProfile(null).getId() == 42, "profile");
            refused(() -> new ServicesApi(clientAt(url, "nobody")).listServices(null), 401);
        });
        step("list", () -> {
            check(services.getData().size() == 1, services);
            check(services.getData().get(0).getProductName().equals("Business Hosting"), services);
        });
        step("page", () -> {
            var first = invoices.listInvoices(null, 2, null, null, null, null, null, null);
            long last = first.getData().get(1).getId();
            var second = invoices.listInvoices(null, 2, String.valueOf(last), null, null, null, null, null);
            check(second.getData().size() == 2 && first.getMeta().getTotal() > 4, first);
            check(second.getData().get(0).getId() < last, second);
        });
        step("create", () -> {
            var wanted = new ClientTicketInput().subject("Grüße").message("Hello").departmentId(1L);
            var opened = tickets.createTicket(wanted, null);
            check(tickets.getTicket(opened.getTicketId(), null).getSubject().equals("Grüße"), opened);
            AdminInvoiceResponse made = invoices.createInvoice(invoice, null);
            check(made.getData().getTotal().equals("24.34") && made.getData().getDueDate().equals(due), made);
        });
        step("instant", () -> {
            OffsetDateTime now = OffsetDateTime.now();
            var wanted = new DomainInput().clientId(56L).domain("java.example.com").registeredAt(now).expiresAt(now.plusYears(1));
            var domain = new DomainsApi(operator).createDomain(wanted, null).getData();
            check(domain.getRegisteredAt().isEqual(now.truncatedTo(ChronoUnit.SECONDS)), domain);
            check(domain.getExpiresAt().isEqual(now.plusYears(1).truncatedTo(ChronoUnit.SECONDS)), domain);
            WebhooksApi webhooks = new WebhooksApi(operator);
            long id = webhooks.listWebhooks(null, null, null).getData().get(0).getId();
            var recovery = webhooks.recoverWebhook(id, new WebhookRecoverInput().since(now), null);
            check(recovery.getData().getWebhookId() == id, recovery);
        });
        step("unchanged", () -> {
            long id = invoices.listInvoices(null, 1, null, null, null, null, null, null).getData().get(0).getId();
            String tag = invoices.getInvoiceWithHttpInfo(id, null).getHeaders().get("etag").get(0);
            denied(() -> invoices.getInvoice(id, tag), 304);
        });
        step("not_found", () -> {
            String missing = refused(() -> tickets.getTicket(NOWHERE, null), 404).getResponseBody();
            check(JSON.readValue(missing, ClientError.class).getCode() == 404, missing);
            String absent = denied(() -> invoices.getInvoice(NOWHERE, null), 404).getResponseBody();
            check(JSON.readValue(absent, AdminError.class).getError().getCode() == ErrorCode.NOT_FOUND, absent);
        });
        step("invalid", () -> {
            ApiClient losing = clientAt(url, token);
            losing.setObjectMapper(ApiClient.createDefaultObjectMapper().addMixIn(ClientTicketInput.class, NoMessage.class));
            var ticket = new ClientTicketInput().subject("Help").departmentId(1L);
            String told = refused(() -> new TicketsApi(losing).createTicket(ticket, null), 422).getResponseBody();
            var details = JSON.readValue(told, ClientValidationError.class).getDetails();
            check(details.get(0).getPointer().equals("/message"), told);
            var forgetful = adminAt(url, key);
            forgetful.setObjectMapper(ApiClient.createDefaultObjectMapper().addMixIn(InvoiceInput.class, NoClient.class));
            var incomplete = new InvoiceInput().dueDate(due).items(lines);
            String no = denied(() -> new InvoicesApi(forgetful).createInvoice(incomplete, null), 400).getResponseBody();
            var faults = JSON.readValue(no, AdminValidationError.class).getError().getDetails();
            check(faults.get(0).getPointer().equals("/client_id"), no);
        });
        step("limited", () -> {
            DepartmentsApi hasty = new DepartmentsApi(adminAt(limited, key));
            var error = denied(() -> {
                for (int call = 0; call < 20; call++) {
                    hasty.listDepartments(null, null, null);
                }
            }, 429);
            var told = JSON.readValue(error.getResponseBody(), AdminError.class);
            check(told.getError().getCode() == ErrorCode.RATE_LIMITED, told);
            check(error.getResponseHeaders().firstValueAsLong("Retry-After").orElse(0) >= 1, error);
        });
        step("webhook", () -> {
            var event = JSON.readValue(Path.of(System.getenv("CLOUDARC_DELIVERY")).toFile(), InvoicePaidEvent.class);
            check(event.getEvent() == InvoicePaidEventName.INVOICE_PAID, event);
            check(event.getData().getTotal().equals("29.99"), event);
            var page = new EventsApi(operator).listEvents(null, null, null, EventName.INVOICE_PAID);
            check(page.getData().get(0).getData().get("total") instanceof String, page);
        });
    }
}
