"""How a request comes in: the only folder that knows Connexion, Starlette and uvicorn."""

import warnings

# Connexion imports Starlette's test client, which prefers another HTTP library; neither is used here.
warnings.filterwarnings("ignore", message="Using `httpx` with `starlette.testclient`")
