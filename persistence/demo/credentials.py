"""The demo credentials, which are public."""

CLIENT_TOKEN = "abc123token"
OTHER_CLIENT_TOKEN = "def456token"
ADMIN_KEY = "demo-admin-key"
OPERATOR = "demo"
OPERATOR_PASSWORD = "demo-operator"
# Its argon2id hash, since demo data is the same every time.
OPERATOR_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$lxAxMrv+DCQi63eTbZJYEw$oTlynPyfiB61rNLZQ68WUVVCCXv0IIPPP2STW0YD67A"
)
