"""A webhook over TLS: the connection goes to the checked address, the certificate to the name."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from luthier.server.config import ServerConfig
from luthier.server.service import Service
from luthier.server.webhooks.allowed_hosts import WebhookHosts, allowed_host
from luthier.server.webhooks.outbox import Due, Signer
from luthier.server.webhooks.sender import WebhookSender

x509 = pytest.importorskip("cryptography.x509")
HOST = "hooks.example.test"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of HOST, signed by itself."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


class _Receiver(BaseHTTPRequestHandler):
    heard: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append(self.headers["Host"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver(certificate: Path) -> Iterator[HTTPServer]:
    kind = type("Kept", (_Receiver,), {"heard": []})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with HTTPServer(("127.0.0.1", 0), kind) as http:
        http.handle_error = lambda *_: None  # type: ignore[method-assign]
        http.socket = context.wrap_socket(http.socket, server_side=True)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield http
        http.shutdown()


def sent(config: ServerConfig, receiver: HTTPServer, named: str) -> int:
    service = Service(config)
    port = receiver.server_port
    hosts = WebhookHosts([allowed_host(f"{named}:{port}")])
    task: dict[str, Any] = {"task_id": "t", "state": "failed", "ended": 1.0, "created": 1.0}
    signer = Signer(config.worker.home / "secret")
    sender = WebhookSender(service.webhooks, hosts, signer, lambda _: task)
    try:
        return sender._sent(Due("t", f"https://{named}:{port}/x", 0))
    finally:
        service.queue.close()


def test_the_certificate_is_the_name_s(
    config: ServerConfig,
    receiver: HTTPServer,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.getaddrinfo

    def to_here(host: str, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host.endswith(".test") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", to_here)
    with pytest.raises(httpx2.ConnectError):  # nobody knows who signed it
        sent(config, receiver, HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert sent(config, receiver, HOST) == 204
    assert receiver.RequestHandlerClass.heard == [f"{HOST}:{receiver.server_port}"]  # type: ignore[attr-defined]
    with pytest.raises(httpx2.ConnectError):  # the certificate is another's
        sent(config, receiver, "other.example.test")
