"""The texts of the demo data."""

FIRST_NAMES = ("Alex", "Chris", "Dana", "Erin", "Jamie", "Jordan", "Kim", "Lee", "Morgan", "Robin", "Sam")
LAST_NAMES = ("Adams", "Baker", "Clark", "Davis", "Evans", "Foster", "Green", "Harris", "Jones", "King")
CITIES = [
    ("Springfield", "Illinois", "62701", "US"),
    ("Leeds", "", "LS1 1UR", "GB"),
    ("Köln", "", "50667", "DE"),
    ("Lyon", "", "69001", "FR"),
    ("大阪", "", "530-0001", "JP"),
]
SUBJECTS = [
    "The website shows a blank page",
    "How do I add a mailbox?",
    "Question about my last invoice",
    "Please restore yesterday's backup",
    "Certificate expires soon",
]
# Articles of the knowledgebase, by category.
TOPICS = {
    1: [
        ("Your first login", "Open the panel and sign in with your email address."),
        ("Changing your password", "Choose a long password. Nobody of our staff ever asks for it."),
        ("Paying an invoice", "Every open invoice has a button to pay by card or bank transfer."),
        ("Reading your invoice", "Each line of the invoice names a service, a domain or a fee."),
        ("Closing your account", "Terminate all services first, then write to billing."),
    ],
    2: [
        ("Adding a mailbox", "A mailbox needs a name and a password. Mail arrives at once."),
        ("Mail on your phone", "Choose IMAP, port 993 and encryption."),
        ("Forwarding mail", "A forward sends every message on to another address."),
        ("Fighting spam", "The filter moves spam into a folder of its own."),
        ("Out of office replies", "An automatic reply tells senders when you are back."),
    ],
    3: [
        ("How to set up a CNAME record", "Open the zone of your domain and add a record of type CNAME."),
        ("Moving a domain to us", "You need the transfer code of your registrar."),
        ("DNS settings explained", "A zone holds records: A, AAAA, CNAME, MX and TXT."),
        ("Why DNS changes take time", "Resolvers keep a record until its time to live is over."),
        ("What a search term may be", "Any search term will do: the name of a record, or a whole question."),
        ("Renewing a domain", "Domains renew by themselves unless you cancel them."),
    ],
    4: [
        ("Installing a certificate", "Certificates are free and renew by themselves."),
        ("Restoring a backup", "Choose a night and the folders to restore."),
        ("Uploading files with SFTP", "Use your username and port 22."),
        ("Choosing the PHP version", "Each site may run a PHP version of its own."),
        ("Running cron jobs", "A cron job runs a script at fixed times."),
        ("Größere Uploads erlauben", "Die Grenze für Uploads steht in den Einstellungen der Website."),
    ],
}
MESSAGES = [
    "It started this morning. Could you have a look?",
    "I could not find it in the documentation.",
    "Thank you, that helped.",
    "We are looking into it and will write again today.",
]

# Tickets of client 42 that the contract's examples name, and who has replied to them.
KNOWN_TICKETS: dict[int, list[str]] = {15: ["staff"], 16: []}
