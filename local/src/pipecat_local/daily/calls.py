"""Calls: who is in which room, and what each hears. Sound is relayed as it comes, never mixed or stored."""

import asyncio
import contextlib
import json
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import WSMsgType, web

from pipecat_local.daily.rooms import Admission, Domain, JoinRefused
from pipecat_local.daily.transcription import Told, Transcriber

EJECTED = "Ejected: the meeting has ended"


@dataclass(eq=False, slots=True)
class Participant:
    """Somebody in a call."""

    id: str
    socket: web.WebSocketResponse
    admission: Admission
    user_name: str
    joined_at: float = field(default_factory=time.time)

    def info(self, local: bool = False) -> dict[str, Any]:
        """In the shape daily-python gives to its users."""
        return {
            "id": self.id,
            "info": {
                "isLocal": local,
                "isOwner": self.admission.owner,
                "userId": self.admission.user_id or self.id,
                "userName": self.user_name,
                "joinedAt": int(self.joined_at),
                "permissions": {"hasPresence": True, "canSend": True, "canReceive": {"base": True}, "canAdmin": []},
            },
            "media": {"microphone": {"state": "playable", "subscribed": "subscribed"}},
        }

    async def tell(self, message: dict[str, Any]) -> None:
        """An event; somebody who is gone misses it."""
        with contextlib.suppress(ConnectionError):
            await self.socket.send_json(message)


class Calls:
    """Every call of a domain."""

    def __init__(self, domain: Domain, transcriber: Callable[[Told], Transcriber]) -> None:
        self._domain = domain
        self._new_transcriber = transcriber
        self._rooms: defaultdict[str, dict[str, Participant]] = defaultdict(dict)
        self._transcribing: dict[str, Transcriber] = {}
        self._tasks: set[asyncio.Task[int]] = set()

    def participants(self, room: str) -> list[Participant]:
        """Who is in the room."""
        return list(self._rooms.get(room, {}).values())

    def presence(self) -> dict[str, list[dict[str, Any]]]:
        """As GET /presence answers it."""
        now = time.time()
        return {
            room: [
                {
                    "room": room,
                    "id": p.id,
                    "userId": p.admission.user_id,
                    "userName": p.user_name,
                    "joinTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(p.joined_at)),
                    "duration": int(now - p.joined_at),
                }
                for p in there.values()
            ]
            for room, there in self._rooms.items()
            if there
        }

    async def eject(self, room: str, participant: str | None = None) -> int:
        """Put one, or all, out of the room."""
        out = [p for p in self.participants(room) if participant in (None, p.id)]
        for p in out:
            await p.tell({"type": "ejected", "message": EJECTED})
            await p.socket.close()
        return len(out)

    async def join(self, request: web.Request) -> web.WebSocketResponse:
        """A participant's whole stay, over one WebSocket."""
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=1 << 20)
        await socket.prepare(request)
        room = request.match_info["room"]
        try:
            asked = await asyncio.wait_for(socket.receive_json(), 10)
            admission = self._domain.admit(room, asked.get("token") or None, len(self._rooms[room]))
        except JoinRefused as refused:
            await socket.send_json({"type": "error", "message": str(refused)})
            await socket.close()
            return socket
        except (TypeError, ValueError, TimeoutError):
            await socket.close()
            return socket
        name = admission.user_name or asked.get("user_name") or "guest"
        me = Participant(str(uuid.uuid4()), socket, admission, name)
        await self._stay(room, me)
        return socket

    async def _stay(self, room: str, me: Participant) -> None:
        others = self._rooms[room]
        await me.tell(
            {"type": "joined", "local": me.info(local=True), "participants": [p.info() for p in others.values()]}
        )
        for p in list(others.values()):
            await p.tell({"type": "participant-joined", "participant": me.info()})
        others[me.id] = me
        timer = None
        if me.admission.eject_at is not None:
            delay = max(0.0, me.admission.eject_at - self._domain.clock())
            timer = asyncio.get_running_loop().call_later(delay, self._eject_later, room, me.id)
        reason = "hidden"
        try:
            async for message in me.socket:
                if message.type is WSMsgType.BINARY:
                    await self._sound(room, me, message.data)
                elif message.type is WSMsgType.TEXT:
                    said = json.loads(message.data)
                    if said["type"] == "leave":
                        reason = "leftCall"
                        break
                    await self._said(room, me, said)
        finally:
            if timer:
                timer.cancel()
            del others[me.id]
            if not others:
                self._transcribing.pop(room, None)
                self._rooms.pop(room, None)
            for p in list(others.values()):
                await p.tell({"type": "participant-left", "participant": me.info(), "reason": reason})

    async def _sound(self, room: str, me: Participant, data: bytes) -> None:
        """``data``: sample rate (4 bytes, little endian) and 16-bit mono samples."""
        framed = me.id.encode() + data
        for p in list(self._rooms[room].values()):
            if p is not me:
                with contextlib.suppress(ConnectionError):
                    await p.socket.send_bytes(framed)
        transcriber = self._transcribing.get(room)
        if transcriber:
            transcriber.hear(me.id, data[4:], int.from_bytes(data[:4], "little"))

    async def _said(self, room: str, me: Participant, said: dict[str, Any]) -> None:
        if said["type"] == "app-message":
            for p in self.participants(room):
                if p is not me and said.get("to") in (None, "*", p.id):
                    await p.tell({"type": "app-message", "from": me.id, "data": said["data"]})
        elif said["type"] == "start-transcription":
            if not me.admission.owner:
                await me.tell({"type": "answer", "id": said["id"], "error": "must be a transcription admin"})
                return
            self._transcribing.setdefault(room, self._new_transcriber(partial(self._transcribed, room)))
            await me.tell({"type": "answer", "id": said["id"]})
            for p in self.participants(room):
                await p.tell({"type": "transcription-started", "by": me.id})
        elif said["type"] == "update-transcription":
            if room in self._transcribing:
                wanted = said["participants"]
                self._transcribing[room].participants = None if wanted is None else set(wanted)
        elif said["type"] == "stop-transcription":
            self._transcribing.pop(room, None)
            await me.tell({"type": "answer", "id": said["id"]})

    async def _transcribed(self, room: str, speaker: str, text: str) -> None:
        message = {
            "participantId": speaker,
            "text": text,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
            "trackType": "cam-audio",
            "rawResponse": {"is_final": True, "channel": {"alternatives": [{"transcript": text, "languages": ["en"]}]}},
        }
        for p in self.participants(room):
            await p.tell({"type": "transcription-message", "message": message})

    def _eject_later(self, room: str, participant: str) -> None:
        task = asyncio.ensure_future(self.eject(room, participant))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
