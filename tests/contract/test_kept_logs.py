"""A log that a cloud's volume has in pieces, and that is damaged there: whoever reads it is told at once."""

import pytest

from agentctl.model import SessionSpec
from agentctl.ops import mirror, sessions
from agentctl.ops.app import App
from tests.supervisor.test_keep_log import writer

pytestmark = pytest.mark.parametrize("provider", ["daytona", "modal"], indirect=True)


@pytest.mark.parametrize("damage", ["torn", "missing"])
async def test_a_damaged_kept_log_is_told_with_what_is_lost_of_it(provider, files, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(provider.paths.root))
    told = []
    monkeypatch.setattr(App, "hear_warnings", [told.append])
    with App.open() as app:
        spec = SessionSpec(agent="mock", provider=provider.name)
        session = await sessions.create(app, spec, name="work", provision=False)
        volume = await provider.volume_create("default")
        app.store.add_volume(volume)
        for text in kept_pieces(tmp_path, damage):
            files.write(volume, f"{mirror.log_path(session.id)}/{text.name}", text.read_text())
        session = app.store.update_session(session.id, status="hibernated")
        session = await mirror.from_volume(app, session)
        assert session.last_sequence == 1
        [warning] = told
        assert f"The log of session work on its volume is damaged: a part of it is {damage}" in warning
        assert "of its 3 events those after 1 cannot be read" in warning
        app.store.update_session(session.id, last_sequence=3)
        await mirror.from_volume(app, app.store.session(session.id))
        assert told == [warning], "what the store has is not lost"


def kept_pieces(tmp_path, damage):
    """Three of one event each, the second of them damaged."""
    with writer(tmp_path / "local", tmp_path / "kept") as one:
        for text in ("1", "2", "3"):
            one.say(text)
            one.copy()
    pieces = sorted((tmp_path / "kept").glob("*.kept"))
    if damage == "torn":
        pieces[1].write_bytes(pieces[1].read_bytes()[:-5])
    else:
        pieces[1].unlink()
    return [path for path in (tmp_path / "kept").iterdir() if path.is_file()]
