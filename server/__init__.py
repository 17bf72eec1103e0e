"""The HTTP server: the only folder that imports Connexion and uvicorn. `panel/` also imports Starlette."""

import warnings

# Connexion imports Starlette's test client, which prefers another HTTP library; neither is used here.
warnings.filterwarnings("ignore", message="Using `httpx` with `starlette.testclient`")
