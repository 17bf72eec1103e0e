// An operator at the panel, in a real browser: node panel.js BASE FOLDER, with the paths to look at on stdin.
// Hands out a token of client 42, looks at every page on three screens, keeps pictures of them in FOLDER, and
// prints what it found as JSON.
const fs = require('fs');
const { chromium } = require('playwright-core');

const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const [base, folder] = process.argv.slice(2);
const paths = JSON.parse(fs.readFileSync(0, 'utf8'));
const screens = {
  desktop: { viewport: { width: 1280, height: 850 } },
  phone: { viewport: { width: 375, height: 740 } },
  dark: { viewport: { width: 1280, height: 850 }, colorScheme: 'dark' },
};
const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

async function signIn(page) {
  await page.goto(`${base}/admin/clients`);
  // By the keyboard alone, as whoever has no mouse.
  await page.focus('#name');
  await page.keyboard.type('demo');
  await page.keyboard.press('Tab');
  await page.keyboard.type('demo-operator');
  await page.keyboard.press('Enter');
  await page.waitForURL(`${base}/admin/clients`);
}

async function handOut(page) {
  await page.fill('#q', 'smith jane');
  await page.getByRole('search', { name: 'Clients' }).getByRole('button', { name: 'Search' }).click();
  await page.getByRole('link', { name: '42', exact: true }).click();
  await page.getByRole('link', { name: 'Edit' }).click();
  await page.getByRole('link', { name: 'Generate API token' }).click();
  await page.getByRole('button', { name: 'Generate API token' }).click();
  return { token: await page.locator('.secret').innerText(), line: await page.locator('pre').innerText() };
}

async function look(page, name, path, found) {
  const answer = await page.goto(base + path);
  found.looked += 1;
  if (answer.status() !== 200) found.faults.push(`${name} ${path}: ${answer.status()}`);
  // The one page with a script.
  if (path.endsWith('/docs')) await page.waitForSelector('[aria-label=Server]');
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (over > 0) found.faults.push(`${name} ${path}: ${over} pixels too wide`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate((tags) => axe.run(document, { runOnly: tags }), rules);
  for (const each of violations) found.faults.push(`${name} ${path}: ${each.id} ${each.nodes[0].html.slice(0, 200)}`);
  await page.screenshot({ path: `${folder}/${name}${path.replace(/[^a-z0-9]+/g, '-')}.png`, fullPage: true });
}

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
  const found = { looked: 0, faults: [] };
  let storageState;
  for (const [name, screen] of Object.entries(screens)) {
    const context = await browser.newContext({ ...screen, storageState });
    const page = await context.newPage();
    // Among them what the content policy forbids.
    page.on('console', (each) => each.type() === 'error' && found.faults.push(`${name} ${page.url()}: ${each.text()}`));
    if (!storageState) {
      await signIn(page);
      Object.assign(found, await handOut(page));
      storageState = await context.storageState();
    }
    for (const path of paths) await look(page, name, path, found);
    await context.close();
  }
  await browser.close();
  console.log(JSON.stringify(found));
})();
