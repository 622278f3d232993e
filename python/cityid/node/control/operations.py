"""For whoever runs the node: probes and figures."""

from fastapi import APIRouter, Response

from cityid.node.control.face import NodeFace
from cityid.node.control.problems import Problem
from cityid.node.telemetry import CONTENT_TYPE, Metrics

__all__ = ["routes"]


def routes(face: NodeFace, metrics: Metrics) -> APIRouter:
    """`/health/live`, `/health/ready` and `/metrics`."""
    router = APIRouter(tags=["operations"])

    @router.get("/health/live", summary="200 unless a restart may help")
    async def live() -> Response:
        return _probe("live", face.healthy(), "the node has halted; /v1/status and its log say why")

    @router.get("/health/ready", summary="200 when this node is at the tip and takes transactions")
    async def ready() -> Response:
        return _probe("ready", face.ready(), "the node is behind the network or its disk fails; /v1/status says which")

    @router.get("/metrics", summary="Figures in the Prometheus text format")
    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    return router


def _probe(name: str, good: bool, why_not: str) -> Response:
    if not good:
        raise Problem("unavailable", why_not)
    return Response(f'{{"{name}":true}}', media_type="application/json", headers={"Cache-Control": "no-store"})
