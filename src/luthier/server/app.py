"""The app: routes, errors, guard, and the workers that live as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from luthier import __version__
from luthier.server.background import background_of
from luthier.server.config import ServerConfig
from luthier.server.http.envelope import add_error_handlers
from luthier.server.http.guard import LOCAL_ORIGIN, Guard
from luthier.server.http.openapi import describe
from luthier.server.http.throttle import Rates
from luthier.server.queue.retention import Cleaner
from luthier.server.routes import (
    chat,
    control,
    datasets,
    jobs,
    metrics,
    models,
    studio,
    tasks,
    trainings,
    transcribe,
)
from luthier.server.routes import dataset_jobs as dataset_work
from luthier.server.routes import health as about
from luthier.server.routes import lora as adapters
from luthier.server.routes import prompts as writing
from luthier.server.service import Service
from luthier.server.workers.supervisor import Supervisor


def create_app(config: ServerConfig) -> FastAPI:
    """The server of `config`; with `workers=0` it only accepts and answers.

    Raises:
        ModelError: a model's folder is not one.
        StorageError: the queue cannot be opened.
    """
    service = Service(config)
    background = background_of(service)
    cleaner = Cleaner(
        service.queue,
        service.places,
        keep_s=config.keep_s,
        keep_bytes=config.keep_bytes,
        inventory=service.inventory,
        uptime=service.uptime,
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        supervisor = Supervisor(config.worker, service.leases, cleaner, config.workers)
        supervisor.start()
        forget = _followed(supervisor.news, service.changes.look)
        service.wake, service.restarts = supervisor.wake, supervisor.restarts
        service.renew = supervisor.renew
        for part in background:
            part.start()
        try:
            yield
        finally:
            forget()
            for part in background:
                await run_in_threadpool(part.stop)
            await run_in_threadpool(supervisor.stop)
            service.queue.close()

    app = FastAPI(
        title="luthier",
        version=__version__,
        summary="ACE-Step's API over a durable queue",
        lifespan=life,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    add_error_handlers(app)
    for part in (
        tasks,
        control,
        about,
        metrics,
        models,
        adapters,
        writing,
        transcribe,
        chat,
        jobs,
        datasets,
        dataset_work,
        trainings,
        studio,
    ):
        app.include_router(part.router)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=config.origins,
        allow_origin_regex=LOCAL_ORIGIN,
        allow_methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"],
        allow_headers=["Content-Type", "Authorization", "Idempotency-Key"],
        expose_headers=["Retry-After"],
    )
    app.openapi = describe(app)  # type: ignore[method-assign]
    app.add_middleware(
        Guard,
        hosts=config.hosts,
        origins=config.origins,
        rates=Rates(config.rate) if config.rate else None,
        keys=service.keys,
        tally=service.metrics.requests,
    )
    return app


def _followed(pipe: IO[bytes], look: Callable[[], None]) -> Callable[[], object]:
    """Call `look` when bytes come; what is returned ends that."""
    loop = asyncio.get_running_loop()

    def come() -> None:
        pipe.read(4096)
        look()

    try:
        loop.add_reader(pipe, come)
    except NotImplementedError:  # Windows: followers look by themselves now and then
        return lambda: None
    return lambda: loop.remove_reader(pipe)
