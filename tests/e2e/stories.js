// What operators do at the panel, and what is done to them, in a real browser: node stories.js STORY BASE, with
// what the story needs as JSON on stdin. Prints what was seen as JSON.
const fs = require('fs');
const { chromium } = require('playwright-core');

const [story, base] = process.argv.slice(2);
const given = JSON.parse(fs.readFileSync(0, 'utf8') || '{}');
const heading = (page) => page.locator('h1').innerText();
const text = (page) => page.locator('main').innerText();

async function signIn(page, password = 'demo-operator') {
  await page.goto(`${base}/admin/sign-in`);
  await page.fill('#name', 'demo');
  await page.fill('#password', password);
  await page.locator('main button').click();
}

// Opens the page of a form, and sends it.
async function send(page, path, values = {}) {
  await page.goto(base + path);
  for (const [name, value] of Object.entries(values)) await page.fill(`[name="${name}"]`, value);
  await submit(page);
}

// The form of the page, not that of signing out.
async function submit(page) {
  await page.locator('main form[method=post] button').last().click();
  await page.waitForLoadState();
}

// What the browser itself complains of, a status apart: scripts that the policy stopped, above all.
function watched(page, seen) {
  page.on('dialog', (dialog) => { seen.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('pageerror', (error) => seen.push(`script: ${error.message}`));
  page.on('console', (each) => {
    if (each.type() === 'error' && !each.text().startsWith('Failed to load resource')) seen.push(each.text());
  });
}

const stories = {
  // A service is suspended: the verb asks first, then says what was done.
  async suspend({ page }) {
    await signIn(page);
    await page.goto(`${base}/admin/services/${given.service}`);
    await page.getByRole('link', { name: 'Suspend', exact: true }).click();
    const asked = await text(page);
    await submit(page);
    return { asked, done: await text(page), url: page.url() };
  },

  // A limit is changed where both documents say that it is.
  async limit({ page }) {
    await signIn(page);
    await page.goto(`${base}/admin/settings`);
    await page.getByRole('link', { name: 'Edit' }).click();
    await page.fill('[name="rate_limit_client"]', given.limit);
    await submit(page);
    return { done: await text(page) };
  },

  // Two tabs have the same invoice open, and both mark it paid.
  async two_tabs({ context, page }) {
    await signIn(page);
    const tabs = [page, await context.newPage()];
    for (const tab of tabs) await tab.goto(`${base}/admin/invoices/${given.invoice}/pay`);
    const answers = await Promise.all(tabs.map(async (tab) => {
      const answered = tab.waitForResponse((each) => each.request().method() === 'POST');
      await submit(tab);
      return (await answered).status();
    }));
    const refused = tabs[answers.indexOf(409)];
    return { answers, heading: refused && await heading(refused), text: refused && await text(refused) };
  },

  // A tab that was left open overnight is saved after somebody else has saved.
  async stale_tab({ context, page }) {
    await signIn(page);
    const old = await context.newPage();
    await old.goto(`${base}/admin/clients/${given.client}/edit`);
    await send(page, `/admin/clients/${given.client}/edit`, { company: 'First' });
    await old.fill('[name="company"]', 'Second');
    const answered = old.waitForResponse((each) => each.request().method() === 'POST');
    await submit(old);
    return { status: (await answered).status(), heading: await heading(old), text: await text(old) };
  },

  // Thirty wrong passwords at once, each from another address, then the right one on a device that is known.
  async guess({ browser, page }) {
    await signIn(page);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.waitForLoadState();
    const pages = await Promise.all(Array.from({ length: 30 }, async (_, nth) => {
      const extraHTTPHeaders = { 'X-Forwarded-For': `203.0.113.${nth}` };
      return (await browser.newContext({ extraHTTPHeaders })).newPage();
    }));
    await Promise.all(pages.map((each) => each.goto(`${base}/admin/sign-in`)));
    const statuses = await Promise.all(pages.map(async (each) => {
      const answered = each.waitForResponse((one) => one.request().method() === 'POST');
      await each.fill('#name', 'demo');
      await each.fill('#password', 'a wrong password');
      await each.locator('main button').click();
      return (await answered).status();
    }));
    await signIn(page);
    await page.waitForLoadState();
    return { statuses, url: page.url() };
  },

  // A cookie that somebody took a copy of is used after its owner has signed out.
  async replay({ browser, context, page }) {
    await signIn(page);
    const cookies = await context.cookies();
    await page.goto(`${base}/admin/clients`);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.waitForLoadState();
    const thief = await browser.newContext();
    await thief.addCookies(cookies);
    const other = await thief.newPage();
    await other.goto(`${base}/admin/clients`);
    return { cookies, url: other.url() };
  },

  // A page of another site sends a form to the panel, in the browser of somebody who has signed in.
  async cross_site({ context, page }) {
    await signIn(page);
    const evil = await context.newPage();
    await context.route('http://evil.example/**', (route) => route.fulfill({
      contentType: 'text/html',
      body: `<form method="post" action="${base}/admin/services/${given.service}/terminate"><button>Win</button></form>`,
    }));
    await evil.goto('http://evil.example/');
    const answered = evil.waitForResponse((each) => each.request().method() === 'POST');
    await evil.getByRole('button').click();
    const status = (await answered).status();
    await page.goto(`${base}/admin/services/${given.service}`);
    return { status, text: await text(page) };
  },

  // What would be a script in a careless page is typed into every field of every form, and every page is looked at.
  async scripts({ page }) {
    const seen = [];
    watched(page, seen);
    await signIn(page);
    const sent = [];
    for (const path of given.forms) {
      await page.goto(base + path);
      const fields = page.locator('main form[method=post]').last().locator('input[type=text], input:not([type]), textarea');
      const count = await fields.count();
      for (let nth = 0; nth < count; nth += 1) await fields.nth(nth).fill(given.script);
      const answered = page.waitForResponse((each) => each.request().method() === 'POST');
      // The server is to judge, not the browser.
      await page.locator('main form[method=post]').last().evaluate((form) => { form.noValidate = true; });
      await submit(page);
      sent.push({ path, fields: count, status: (await answered).status() });
    }
    for (const path of given.pages) await page.goto(base + path);
    return { sent, seen };
  },
};

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
  const context = await browser.newContext();
  const page = await context.newPage();
  const found = await stories[story]({ browser, context, page });
  await browser.close();
  console.log(JSON.stringify(found));
})();
