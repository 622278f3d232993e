"""The parts of the demo that need no node: the cable that can be cut, the process without a network, its directory."""

import sys
from pathlib import Path

import pytest
import trio

from cityid.cli.demo import _clear
from cityid.cli.demo.outside import Outside, choose_outside
from cityid.cli.demo.relay import Relay
from cityid.cli.local import free_ports
from cityid.errors import InputError


def test_a_cable_carries_counts_is_cut_and_is_joined() -> None:
    async def main() -> None:
        target, port = free_ports(2)
        relay = Relay(target, port)

        async def echo(stream: trio.SocketStream) -> None:
            async for data in stream:
                await stream.send_all(data)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_tcp, echo, target)
                await nursery.start(relay.run)
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await stream.send_all(b"hello")
                    assert await stream.receive_some() == b"hello"
                    assert relay.carried_bytes == 10
                    relay.cut()
                    assert await _read(stream) == b""
                async with await trio.open_tcp_stream("127.0.0.1", port) as cut:
                    assert await _read(cut) == b""
                assert relay.carried_bytes == 10
                relay.join()
                async with await trio.open_tcp_stream("127.0.0.1", port) as again:
                    await again.send_all(b"again")
                    assert await again.receive_some() == b"again"
                nursery.cancel_scope.cancel()

    trio.run(main)


async def _read(stream: trio.SocketStream) -> bytes:
    try:
        return await stream.receive_some()
    except trio.BrokenResourceError:
        return b""


@pytest.mark.parametrize("kernel", [True, False])
def test_a_process_outside_reaches_nothing_and_the_control_does(kernel: bool) -> None:
    outside = choose_outside() if kernel else Outside((), kernel=False)
    if kernel and not outside.kernel:
        pytest.skip("this kernel gives us no network namespace; the hook is tested beside")

    async def main() -> None:
        [port] = free_ports(1)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, trio.aclose_forcefully, port)
            url = f"http://127.0.0.1:{port}"
            assert not await trio.to_thread.run_sync(outside.reaches, url)
            # Control: the same program with its network reaches the same port.
            with_network = Outside((), kernel=True)
            assert await trio.to_thread.run_sync(with_network.reaches, url)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_only_a_directory_that_a_demo_made_is_cleared(tmp_path: Path) -> None:
    mine = tmp_path / "work"
    mine.mkdir()
    (mine / "thesis.txt").write_text("ten years")
    with pytest.raises(InputError, match="--dir"):
        _clear(mine)
    assert (mine / "thesis.txt").exists()
    (mine / ".cityid-demo").touch()
    _clear(mine)
    assert list(mine.iterdir()) == []
    _clear(tmp_path / "new" / "place")
    assert (tmp_path / "new" / "place").is_dir()


def test_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(1024 < port < 65_536 for port in ports), sys.platform
