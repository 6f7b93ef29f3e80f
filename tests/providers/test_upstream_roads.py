"""How the upstream client reaches a provider: DNS, IPv6, TLS, proxies from the environment; on both event loops."""

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.providers.peer import OK, Asked, eventually, peer, until

from pilothouse.domain.errors import ConnectFailed, CutStream
from pilothouse.providers.upstream import Call, Upstream


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=[False, True], ids=["calm", "busy"])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    """Requests leave at once, or at the turn's end."""
    one = Upstream()
    one.pace.busy = request.param
    yield one
    await one.close()
    await eventually(lambda: not one.open)
    assert one.idle == 0


# --- connecting ------------------------------------------------------------------------------------------------------


async def test_nobody_listens(upstream: Upstream) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(ConnectFailed, match="no connection to the provider") as caught:
                await upstream.whole(Call(f"http://{host}:{port}/", [], b"", 2.0))
            assert caught.value.where == f"{host}:{port}"
    assert (upstream.open, upstream.created) == (0, 0)


async def test_a_name_that_is_not_known(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_args: object, **_kwargs: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        pytest.skip("uvloop's getaddrinfo cannot be replaced")
    monkeypatch.setattr(loop, "getaddrinfo", unknown)
    with pytest.raises(ConnectFailed, match="Name or service not known"):
        await upstream.whole(Call("http://no-such-host.example/", [], b"", 2.0))


async def test_the_next_address_is_tried(upstream: Upstream) -> None:
    """`localhost` has an IPv6 address too on most machines; here only IPv4 listens."""
    async with peer() as one:
        assert (await upstream.whole(one.call(host="localhost"))).body == b"ok"
        assert one.asked[0].headers["host"] == f"localhost:{one.port}"


async def test_an_ipv6_address(upstream: Upstream) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with peer(host="::1") as one:
        assert (await upstream.whole(one.call(host="[::1]"))).body == b"ok"
        assert one.asked[0].headers["host"] == f"[::1]:{one.port}"


async def test_small_writes_are_sent_at_once(upstream: Upstream) -> None:
    async with peer() as one:
        await upstream.whole(one.call())
        (pool,) = upstream._pools.values()
        found = pool.idle[0].transport.get_extra_info("socket")
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@contextlib.asynccontextmanager
async def silence() -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Event]]:
    """A server that says nothing: its port, and events for a connection that came and went."""
    came, went = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        went.set()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], came, went
    server.close()


async def test_the_connect_timeout_covers_tls(upstream: Upstream) -> None:
    async with silence() as (port, _, went):
        with pytest.raises(ConnectFailed, match=r"within 0\.1 s"):
            await upstream.whole(Call(f"https://127.0.0.1:{port}/", [], b"", 0.1))
        await until(went)
    assert (upstream.open, upstream.created) == (0, 0)


async def test_the_connect_timeout_covers_the_proxy(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    async with silence() as (port, _, went):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectFailed, match=r"within 0\.1 s"):
            await upstream.whole(Call("https://provider.test/", [], b"", 0.1))
        await until(went)


async def test_a_call_given_up_while_connecting_is_seen_closed_at_once(upstream: Upstream) -> None:
    async with silence() as (port, came, went):
        call = Call(f"https://127.0.0.1:{port}/", [], b"", 30.0)
        task = asyncio.get_running_loop().create_task(upstream.whole(call))
        await until(came)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(went)
    assert (upstream.open, upstream.created) == (0, 0)


# --- TLS -------------------------------------------------------------------------------------------------------------


class Authority:
    """A throw-away CA in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(self.name, self.key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        )
        extra = {"key_cert_sign": True, "crl_sign": True, "encipher_only": False, "decipher_only": False}
        made = made.add_extension(x509.KeyUsage(**usage, **extra), True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        built = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
        built = built.serial_number(x509.random_serial_number())
        day = datetime.timedelta(days=1)
        return built.not_valid_before(now - day).not_valid_after(now + day)

    def server(self, host: str) -> ssl.SSLContext:
        """A server's context with a certificate for `host`; `sni` and `alpn` are what clients asked for."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        made = self._builder(subject, key.public_key())
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        made = made.add_extension(issuer, False)
        file = self.folder / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """A CA that this process trusts, and no other."""
    one = Authority(tmp_path, "test-ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(one.file))
    yield one


async def test_tls_with_the_environments_certificates(upstream: Upstream, authority: Authority) -> None:
    context = authority.server("localhost")
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    alpn: list[str | None] = []

    async def answer(asked: Asked) -> None:
        alpn.append(asked.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await asked.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")

    async with peer(answer, context=context) as one:
        for _ in range(3):
            assert (await upstream.whole(one.call(bytes(200_000), host="localhost"))).body == b"ok"
        flow = await upstream.stream(one.call(host="localhost"))
        assert await flow.read() == b"ok" and flow.ended
        assert (one.connections, upstream.reused, upstream.idle) == (1, 3, 1)
    assert names == ["localhost"] and set(alpn) == {"http/1.1"}


async def test_a_cut_and_an_early_end_over_tls(upstream: Upstream, authority: Authority) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        if asked.body == b"cut":
            asked.writer.transport.abort()
        else:
            await asked.gone()

    async with peer(answer, context=authority.server("localhost")) as one:
        flow = await upstream.stream(one.call(b"cut", host="localhost"))
        assert await flow.read() == b"ok"
        with pytest.raises(CutStream):
            await flow.read()
        await flow.close()
        one.closed.clear()
        flow = await upstream.stream(one.call(host="localhost"))
        assert await flow.read() == b"ok"
        await flow.close()
        await until(one.closed)
        await eventually(lambda: not upstream.open)


async def test_a_certificate_for_another_name_or_from_nobody_known(
    upstream: Upstream, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger")
    for context in (authority.server("elsewhere.test"), stranger.server("localhost")):
        async with peer(context=context) as one:
            with pytest.raises(ConnectFailed, match="certificate verify failed"):
                await upstream.whole(one.call(host="localhost"))
            assert not one.asked
    assert upstream.open == 0


# --- proxies ---------------------------------------------------------------------------------------------------------


async def tunnel(asked: Asked, port: int) -> None:
    """Lead the bytes of this connection on to `port`, until either side ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asked.send(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        raise ConnectionError("one side has closed")

    try:
        await asyncio.gather(pipe(asked.reader, writer), pipe(reader, asked.writer))
    finally:
        writer.transport.abort()
        asked.writer.transport.abort()


async def test_http_through_a_proxy(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://us%20er:pass@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://us%20er:pass@127.0.0.1:{proxy.port}")
        for _ in range(2):
            assert (await upstream.whole(Call("http://provider.test/v1/x?a=b", [], b"{}", 2.0))).body == b"ok"
    first = proxy.asked[0]
    assert first.line == "POST http://provider.test/v1/x?a=b HTTP/1.1" and first.headers["host"] == "provider.test"
    assert first.headers["proxy-authorization"] == "Basic dXMgZXI6cGFzcw=="
    assert proxy.connections == 1


async def test_https_through_a_proxy(upstream: Upstream, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(context=authority.server("provider.test")) as provider:

        async def answer(asked: Asked) -> None:
            await tunnel(asked, provider.port)

        async with peer(answer) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://u:p@127.0.0.1:{proxy.port}")
            for _ in range(3):
                assert (await upstream.whole(Call("https://provider.test/v1/x", [], b"{}", 2.0))).body == b"ok"
            (asked,) = proxy.asked
            assert asked.line == "CONNECT provider.test:443 HTTP/1.1"
            assert asked.headers == {"host": "provider.test:443", "proxy-authorization": "Basic dTpw"}
            assert len(provider.asked) == 3 and "proxy-authorization" not in provider.asked[0].headers
            await upstream.close()
            await eventually(lambda: not (proxy.open or provider.open))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", "not one to CONNECT"),
        (b"x" * 20_000, "not one to CONNECT"),
        (b"", "closed the connection"),
    ],
    ids=["refused", "more", "long", "closed"],
)
async def test_a_proxy_that_leads_nowhere(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, said: bytes, why: str
) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(said)
        if said:
            await asked.gone()
        asked.writer.close()

    async with peer(answer) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectFailed, match=why):
            await upstream.whole(Call("https://provider.test/", [], b"", 2.0))
        await until(proxy.closed)
    assert upstream.open == 0


async def test_no_proxy_where_the_environment_says_so(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer() as proxy, peer() as provider:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
        await upstream.whole(provider.call())
        assert len(provider.asked) == 1 and not proxy.asked
        monkeypatch.delenv("no_proxy")
        again = Upstream()
        await again.whole(provider.call())
        assert len(proxy.asked) == 1
        await again.close()


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
async def test_a_proxy_that_cannot_be_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConnectFailed, match="proxy"):
        await upstream.whole(Call("https://provider.test/", [], b"", 1.0))


async def test_plain_http_through_an_encrypted_proxy(
    upstream: Upstream, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with peer(context=authority.server("localhost")) as proxy:
        monkeypatch.setenv("http_proxy", f"https://localhost:{proxy.port}")
        assert (await upstream.whole(Call("http://provider.test/", [], b"", 2.0))).body == b"ok"
        assert proxy.asked[0].line == "POST http://provider.test/ HTTP/1.1"


async def test_a_user_in_the_address(upstream: Upstream) -> None:
    async with peer(OK) as one:
        call = one.call()
        await upstream.whole(Call(call.url.replace("://", "://ana:b%40c@"), [], b"", 1.0))
        assert one.asked[0].headers["authorization"] == "Basic YW5hOmJAYw=="
        assert one.asked[0].headers["host"] == f"127.0.0.1:{one.port}"


async def test_many_addresses_do_not_pile_up(upstream: Upstream) -> None:
    async with peer() as one:
        for n in range(1100):
            await upstream.whole(one.call(b"", path=f"/v1/files/{n}", method="GET"))
        assert len(upstream._targets) <= 1024 and one.connections == 1
