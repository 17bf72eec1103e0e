// The story of every client, with the clients that openapi-generator makes for Rust.
use std::{env, fs, time::Instant};

use chrono::{DateTime, Duration, FixedOffset, Local, NaiveDate};
use cloudarc_admin::{apis as admin_apis, models as shapes};
use cloudarc_client::{apis as client_apis, models};
use serde_json::{from_str, json};

type Failure = Box<dyn std::error::Error>;

const NOWHERE: i64 = 9007199254740991;

fn given(name: &str) -> String {
    env::var(format!("CLOUDARC_{name}")).expect(name)
}

/// Runs the statements, and tells how long they took.
macro_rules! step {
    ($name:literal, $work:block) => {{
        let start = Instant::now();
        $work
        println!("{} {}", $name, start.elapsed().as_millis());
    }};
}

/// The answer to a call that is refused with a status.
macro_rules! refused {
    ($apis:ident, $call:expr, $status:literal) => {
        match $call.await {
            Err($apis::Error::ResponseError(answer)) if answer.status.as_u16() == $status => answer.content,
            other => panic!("not {}: {:?}", $status, other),
        }
    };
}

fn client_at(url: &str, token: &str) -> client_apis::configuration::Configuration {
    let mut config = client_apis::configuration::Configuration::new();
    config.base_path = url.into();
    config.bearer_access_token = Some(token.into());
    config
}

fn admin_at(url: &str, key: &str) -> admin_apis::configuration::Configuration {
    let mut config = admin_apis::configuration::Configuration::new();
    config.base_path = url.into();
    config.bearer_access_token = Some(key.into());
    config
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (url, token, key) = (given("URL"), given("TOKEN"), given("KEY"));
    // The first call:
    let mut api = client_apis::configuration::Configuration::new();
    api.base_path = url.clone();
    api.bearer_access_token = Some(token);
    let services = client_apis::services_api::list_services(&api, None).await?;
    for service in &services.data {
        println!("# {} {}", service.product_name, service.status);
    }
    // Until here.
    let operator = admin_at(&url, &key);
    let lines: Vec<_> =
        [19.99, 4.35].iter().map(|amount| shapes::InvoiceLineInput::new("Hosting".into(), *amount)).collect();
    let due = NaiveDate::from_ymd_opt(2035, 1, 31).expect("a day");
    let mut invoice = 0;

    step!("authorise", {
        assert_eq!(client_apis::profile_api::get_profile(&api, None).await?.id, 42);
        let stranger = client_at(&url, "nobody");
        refused!(client_apis, client_apis::services_api::list_services(&stranger, None), 401);
    });
    step!("list", {
        let names: Vec<_> = services.data.iter().map(|row| row.product_name.as_str()).collect();
        assert_eq!(names, ["Business Hosting"]);
    });
    step!("page", {
        let first =
            admin_apis::invoices_api::list_invoices(&operator, None, Some(2), None, None, None, None, None, None).await?;
        let last = first.data[1].id;
        let after = last.to_string();
        let second = admin_apis::invoices_api::list_invoices(
            &operator, None, Some(2), Some(&after), None, None, None, None, None,
        )
        .await?;
        assert!(second.data.len() == 2 && first.meta.total > 4 && second.data[0].id < last);
    });
    step!("create", {
        let wanted = models::ClientTicketInput::new("Grüße".into(), "Hello".into(), 1);
        let opened = client_apis::tickets_api::create_ticket(&api, wanted, None).await?;
        let ticket = client_apis::tickets_api::get_ticket(&api, opened.ticket_id, None).await?;
        assert_eq!(ticket.subject, "Grüße");
        let wanted = shapes::InvoiceInput::new(56, due, lines.clone());
        let made = admin_apis::invoices_api::create_invoice(&operator, wanted, None).await?.data;
        assert_eq!((made.total.as_str(), made.due_date), ("24.34", due));
        invoice = made.id;
    });
    step!("instant", {
        let now: DateTime<FixedOffset> = Local::now().into();
        let expires = now + Duration::days(365);
        let mut wanted = shapes::DomainInput::new(56, "rust.example.com".into(), expires);
        wanted.registered_at = Some(now);
        let domain = admin_apis::domains_api::create_domain(&operator, wanted, None).await?.data;
        assert_eq!(domain.registered_at.timestamp(), now.timestamp());
        assert_eq!(domain.expires_at.timestamp(), expires.timestamp());
        let id = admin_apis::webhooks_api::list_webhooks(&operator, None, None, None).await?.data[0].id;
        let since = shapes::WebhookRecoverInput::new(now);
        let recovery = admin_apis::webhooks_api::recover_webhook(&operator, id, since, None).await?;
        assert_eq!(recovery.data.webhook_id, id);
    });
    step!("unchanged", {
        // The functions give the models alone; the header is read with the client that they use.
        let place = format!("{url}/invoices/{invoice}");
        let answer = operator.client.get(place).bearer_auth(&key).send().await?;
        let tag = answer.headers()["ETag"].to_str()?;
        // No error by its status, a 304 is one because the function looks for a body.
        let unchanged = admin_apis::invoices_api::get_invoice(&operator, invoice, Some(tag)).await;
        assert!(matches!(unchanged, Err(admin_apis::Error::Serde(_))), "{unchanged:?}");
        let changed = admin_apis::invoices_api::get_invoice(&operator, invoice, Some("\"other\"")).await?;
        assert_eq!(changed.data.id, invoice);
    });
    step!("not_found", {
        let missing = refused!(client_apis, client_apis::tickets_api::get_ticket(&api, NOWHERE, None), 404);
        assert_eq!(from_str::<models::ClientError>(&missing)?.code, 404);
        let absent = refused!(admin_apis, admin_apis::invoices_api::get_invoice(&operator, NOWHERE, None), 404);
        assert_eq!(from_str::<shapes::AdminError>(&absent)?.error.code, shapes::ErrorCode::NotFound);
    });
    step!("invalid", {
        // The models have what is required; a body without it goes around them.
        let body = json!({"subject": "Help", "department_id": 1});
        let call = api.client.post(format!("{url}/tickets")).bearer_auth(given("TOKEN")).json(&body).send().await?;
        assert_eq!(call.status().as_u16(), 422);
        assert_eq!(call.json::<models::ClientValidationError>().await?.details[0].pointer, "/message");
        let body = json!({"due_date": due, "items": lines});
        let call = operator.client.post(format!("{url}/invoices")).bearer_auth(&key).json(&body).send().await?;
        assert_eq!(call.status().as_u16(), 400);
        assert_eq!(call.json::<shapes::AdminValidationError>().await?.error.details[0].pointer, "/client_id");
    });
    step!("limited", {
        let hasty = admin_at(&given("LIMITED"), &key);
        let mut calls = 0;
        let told = loop {
            calls += 1;
            match admin_apis::departments_api::list_departments(&hasty, None, None, None).await {
                Err(admin_apis::Error::ResponseError(answer)) if answer.status.as_u16() == 429 => break answer.content,
                answer => assert!(answer.is_ok() && calls < 20, "{answer:?}"),
            }
        };
        assert_eq!(from_str::<shapes::AdminError>(&told)?.error.code, shapes::ErrorCode::RateLimited);
        let answer = hasty.client.get(format!("{}/departments", hasty.base_path)).bearer_auth(&key).send().await?;
        assert!(answer.headers()["Retry-After"].to_str()?.parse::<u32>()? >= 1);
    });
    step!("webhook", {
        let event: shapes::InvoicePaidEvent = from_str(&fs::read_to_string(given("DELIVERY"))?)?;
        assert_eq!(event.data.total, "29.99");
        let name = Some(shapes::EventName::INVOICE_PAID);
        let page = admin_apis::events_api::list_events(&operator, None, None, None, name).await?;
        assert!(page.data[0].data["total"].is_string());
    });
    Ok(())
}
