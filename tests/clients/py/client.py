"""nats-py against a broker: see `run` for the words it speaks with its driver."""

import asyncio
import sys

import nats
from nats.js.api import ConsumerConfig


async def main(url, messages):
    nc = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    sub = await nc.subscribe("greet.*")
    for i in range(100):
        await nc.publish(f"greet.{i}", b"%d" % i)
    got = [int((await sub.next_msg(timeout=5)).data) for _ in range(100)]
    assert got == list(range(100)), got
    print("ok publish and subscribe")

    async def answer(msg):
        await msg.respond(b"re: " + msg.data)

    await nc.subscribe("service", cb=answer)
    reply = await nc.request("service", b"hi", timeout=5)
    assert reply.data == b"re: hi", reply
    try:
        await nc.request("nobody", b"hi", timeout=5)
        raise AssertionError("an answer from nobody")
    except nats.errors.NoRespondersError:
        pass
    print("ok request")

    js = nc.jetstream()
    await js.add_stream(name="PY", subjects=["py.>"])
    half = messages // 2
    acked = {}

    async def publish(i):
        while True:
            try:
                ack = await js.publish(f"py.{i}", b"%d" % i, headers={"Nats-Msg-Id": str(i)})
                acked[i] = ack.seq
                return
            except Exception:
                await asyncio.sleep(0.1)

    async def publish_all(first, last):
        for start in range(first, last, 200):
            await asyncio.gather(*(publish(i) for i in range(start, min(start + 200, last))))

    await publish_all(0, half)
    psub = await js.pull_subscribe(
        "py.>", durable="D", stream="PY", config=ConsumerConfig(ack_wait=300)
    )
    seen = []

    async def fetch(count):
        while len(set(seen)) < count:
            try:
                batch = await psub.fetch(min(250, count - len(set(seen))), timeout=5)
            except (nats.errors.TimeoutError, nats.errors.Error):
                continue
            seen.extend(int(msg.data) for msg in batch)
            await asyncio.gather(*(msg.ack_sync(timeout=30) for msg in batch))

    await fetch(half // 2)
    print("RESTART", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await publish_all(half, messages)
    await fetch(messages)
    assert len(set(acked.values())) == messages, "two messages have one sequence"
    info = await js.stream_info("PY")
    assert info.state.messages == messages, info.state
    print("ok create a stream and publish with acks")
    assert set(seen) == set(range(messages)), f"{messages - len(set(seen))} are missing"
    print("ok every acknowledged message after a restart")
    twice = len(seen) - len(set(seen))
    print("ok once" if not twice else f"twice {twice} messages came twice")
    await nc.close()


asyncio.run(asyncio.wait_for(main(sys.argv[1], int(sys.argv[2])), 300))
