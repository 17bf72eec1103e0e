// The story of every client, with the clients that openapi-generator makes for Go.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"cloudarc/admin"
	"cloudarc/client"
)

const nowhere = 9007199254740991

func given(name string) string { return os.Getenv("CLOUDARC_" + name) }

func check(good bool, what ...any) {
	if !good {
		fmt.Fprintln(os.Stderr, what...)
		os.Exit(1)
	}
}

func step(name string, work func()) {
	start := time.Now()
	work()
	fmt.Println(name, time.Since(start).Milliseconds())
}

// losing is a transport that loses a member of the body: the structs always have what is required.
type losing string

func (name losing) RoundTrip(request *http.Request) (*http.Response, error) {
	members := map[string]any{}
	if err := json.NewDecoder(request.Body).Decode(&members); err != nil {
		return nil, err
	}
	delete(members, string(name))
	body, _ := json.Marshal(members)
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return http.DefaultTransport.RoundTrip(request)
}

func clientAt(url, token string, transport http.RoundTripper) *client.APIClient {
	config := client.NewConfiguration()
	config.Servers = client.ServerConfigurations{{URL: url}}
	config.AddDefaultHeader("Authorization", "Bearer "+token)
	config.HTTPClient = &http.Client{Transport: transport}
	return client.NewAPIClient(config)
}

func adminAt(url, key string, transport http.RoundTripper) *admin.APIClient {
	config := admin.NewConfiguration()
	config.Servers = admin.ServerConfigurations{{URL: url}}
	config.AddDefaultHeader("Authorization", "Bearer "+key)
	config.HTTPClient = &http.Client{Transport: transport}
	return admin.NewAPIClient(config)
}

func clientModel(err error) any {
	var told *client.GenericOpenAPIError
	check(errors.As(err, &told), err)
	return told.Model()
}

func adminModel(err error) any {
	var told *admin.GenericOpenAPIError
	check(errors.As(err, &told), err)
	return told.Model()
}

func main() {
	url, token, key, ctx := given("URL"), given("TOKEN"), given("KEY"), context.Background()
	// The first call:
	config := client.NewConfiguration()
	config.Servers = client.ServerConfigurations{{URL: url}}
	config.AddDefaultHeader("Authorization", "Bearer "+token)
	services, _, err := client.NewAPIClient(config).ServicesAPI.ListServices(ctx).Execute()
	for _, service := range services.GetData() {
		fmt.Println("#", service.ProductName, service.Status)
	}
	// Until here.
	check(err == nil, err)
	api, operator := clientAt(url, token, nil), adminAt(url, key, nil)
	lines := []admin.InvoiceLineInput{{Description: "Hosting", Amount: 19.99}, {Description: "Backup", Amount: 4.35}}
	invoice := admin.InvoiceInput{ClientId: 56, DueDate: "2035-01-31", Items: lines}
	ticket := client.ClientTicketInput{Subject: "Grüße", Message: "Hello", DepartmentId: 1}

	step("authorise", func() {
		profile, _, err := api.ProfileAPI.GetProfile(ctx).Execute()
		check(err == nil && profile.Id == 42, err)
		_, answer, err := clientAt(url, "nobody", nil).ServicesAPI.ListServices(ctx).Execute()
		check(err != nil && answer.StatusCode == 401, err)
	})
	step("list", func() {
		check(len(services.Data) == 1 && services.Data[0].ProductName == "Business Hosting", services)
	})
	step("page", func() {
		first, _, err := operator.InvoicesAPI.ListInvoices(ctx).Limit(2).Execute()
		check(err == nil && len(first.Data) == 2 && first.Meta.Total > 4, err)
		second, _, err := operator.InvoicesAPI.ListInvoices(ctx).Limit(2).After(strconv.FormatInt(first.Data[1].Id, 10)).Execute()
		check(err == nil && len(second.Data) == 2 && second.Data[0].Id < first.Data[1].Id, err)
	})
	step("create", func() {
		opened, _, err := api.TicketsAPI.CreateTicket(ctx).ClientTicketInput(ticket).Execute()
		check(err == nil, err)
		read, _, err := api.TicketsAPI.GetTicket(ctx, opened.TicketId).Execute()
		check(err == nil && read.Subject == "Grüße", err)
		made, _, err := operator.InvoicesAPI.CreateInvoice(ctx).InvoiceInput(invoice).Execute()
		check(err == nil && made.Data.Total == "24.34" && made.Data.DueDate == "2035-01-31", err)
	})
	step("instant", func() {
		now := time.Now()
		year := now.AddDate(1, 0, 0)
		wanted := admin.DomainInput{ClientId: 56, Domain: "go.example.com", RegisteredAt: &now, ExpiresAt: year}
		added, _, err := operator.DomainsAPI.CreateDomain(ctx).DomainInput(wanted).Execute()
		check(err == nil && added.Data.RegisteredAt.Equal(now.Truncate(time.Second)), err)
		check(added.Data.ExpiresAt.Equal(year.Truncate(time.Second)), added)
		hooks, _, err := operator.WebhooksAPI.ListWebhooks(ctx).Execute()
		check(err == nil && len(hooks.Data) > 0, err)
		id, since := hooks.Data[0].Id, admin.WebhookRecoverInput{Since: now}
		recovery, _, err := operator.WebhooksAPI.RecoverWebhook(ctx, id).WebhookRecoverInput(since).Execute()
		check(err == nil && recovery.Data.WebhookId == id, err)
	})
	step("unchanged", func() {
		rows, _, err := operator.InvoicesAPI.ListInvoices(ctx).Limit(1).Execute()
		check(err == nil, err)
		id := rows.Data[0].Id
		_, answer, err := operator.InvoicesAPI.GetInvoice(ctx, id).Execute()
		check(err == nil, err)
		tag := answer.Header.Get("ETag")
		_, answer, err = operator.InvoicesAPI.GetInvoice(ctx, id).IfNoneMatch(tag).Execute()
		check(err != nil && answer.StatusCode == 304, err)
	})
	step("not_found", func() {
		_, answer, err := api.TicketsAPI.GetTicket(ctx, nowhere).Execute()
		missing, good := clientModel(err).(client.ErrorAnswer)
		check(good && answer.StatusCode == 404 && missing.ClientError.Code == 404, err)
		_, answer, err = operator.InvoicesAPI.GetInvoice(ctx, nowhere).Execute()
		absent, good := adminModel(err).(admin.ErrorAnswer)
		check(good && answer.StatusCode == 404 && absent.AdminError.Error.Code == admin.ERRORCODE_NOT_FOUND, err)
	})
	step("invalid", func() {
		tickets := clientAt(url, token, losing("message")).TicketsAPI
		_, answer, err := tickets.CreateTicket(ctx).ClientTicketInput(ticket).Execute()
		told, good := clientModel(err).(client.ClientValidationError)
		check(good && answer.StatusCode == 422 && told.Details[0].Pointer == "/message", err)
		invoices := adminAt(url, key, losing("client_id")).InvoicesAPI
		_, answer, err = invoices.CreateInvoice(ctx).InvoiceInput(invoice).Execute()
		denied, good := adminModel(err).(admin.AdminValidationError)
		check(good && answer.StatusCode == 400 && denied.Error.Details[0].Pointer == "/client_id", err)
	})
	step("limited", func() {
		var answer *http.Response
		var err error
		for call := 0; call < 20 && err == nil; call++ {
			_, answer, err = adminAt(given("LIMITED"), key, nil).DepartmentsAPI.ListDepartments(ctx).Execute()
		}
		told, good := adminModel(err).(admin.ErrorAnswer)
		check(good && answer.StatusCode == 429 && told.AdminError.Error.Code == admin.ERRORCODE_RATE_LIMITED, err)
		seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
		check(err == nil && seconds >= 1, err)
	})
	step("webhook", func() {
		body, err := os.ReadFile(given("DELIVERY"))
		check(err == nil, err)
		var event admin.InvoicePaidEvent
		check(json.Unmarshal(body, &event) == nil, string(body))
		check(event.Event == "invoice.paid" && event.Data.Total == "29.99", event)
		page, _, err := operator.EventsAPI.ListEvents(ctx).Type_(admin.EVENTNAME_INVOICE_PAID).Execute()
		check(err == nil && page.Data[0].Data["total"] != nil, err)
	})
}
