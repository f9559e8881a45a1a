"""The HTTP face of a bundle: /predict, /health and the OpenAPI page under /docs."""

from __future__ import annotations

import hmac
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tunekit.bundle import Bundle
from tunekit.bundle.tasks import decided, shares_of
from tunekit.errors import DataError
from tunekit.serve.batching import Batcher
from tunekit.serve.limit import LimitBody
from tunekit.serve.schema import request_model, told

Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]

LARGEST_BODY = 4 * 2**20
"""Bytes of a request."""


def make_app(bundle: Bundle, *, token: str | None = None) -> FastAPI:
    """The application.

    Args:
        bundle: what predicts.
        token: what callers must send as `Authorization: Bearer TOKEN`, not empty; None lets everybody predict.
    """
    app = FastAPI(
        title=bundle.name,
        version=str(bundle.manifest.get("created", "")),
        description=f"{bundle.task}, {len(bundle.manifest['members'])} model(s), {len(bundle.columns)} columns.",
    )
    app.add_middleware(LimitBody, most=LARGEST_BODY)
    batcher = Batcher(bundle.raw)
    rows_model = request_model(bundle)

    def allowed(given: Credentials) -> None:
        told = "" if given is None else given.credentials
        if not hmac.compare_digest(told.encode(), str(token).encode()):
            reason = "the token is absent or wrong; expected the header 'Authorization: Bearer TOKEN'"
            raise HTTPException(401, reason, {"WWW-Authenticate": "Bearer"})

    async def predict(request: Any) -> dict[str, Any]:
        """Predictions of rows, with probabilities where there are classes."""
        rows = [row.model_dump(by_alias=True) for row in request.rows]
        return _answer(bundle, await batcher.predict(rows))

    predict.__annotations__["request"] = rows_model
    app.post("/predict", dependencies=[] if token is None else [Depends(allowed)])(predict)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """That the server is up, and what it serves."""
        return {"status": "ok", "name": bundle.name, "task": bundle.task, "created": bundle.manifest.get("created")}

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        del request
        status = 400 if any(one["type"] == "json_invalid" for one in error.errors()) else 422
        return JSONResponse({"detail": told(list(error.errors()))}, status)

    @app.exception_handler(DataError)
    def unfit(request: Request, error: DataError) -> JSONResponse:
        del request
        return JSONResponse({"detail": str(error)}, 422)

    return app


def _answer(bundle: Bundle, raw: Any) -> dict[str, Any]:
    """Predictions as JSON holds them."""
    parts = bundle.parts(raw)
    found = {
        name: decided(part, task, classes, threshold=bundle.threshold).tolist() for name, task, classes, part in parts
    }
    shares = {name: shares_of(part, task).tolist() for name, task, _, part in parts if task != "regression"}
    classes = {name: _plain(own) for name, _, own, _ in parts if own}
    if not bundle.targets:
        single = {"predictions": found[""], "probabilities": shares.get(""), "classes": classes.get("")}
        return {name: value for name, value in single.items() if value is not None}
    return {"predictions": found, "probabilities": shares, "classes": classes}


def _plain(classes: list[Any]) -> list[Any]:
    return [one.item() if isinstance(one, np.generic) else one for one in classes]
