"""Finding, merging and overriding profiles, and the places that errors name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thunderctl.errors import ExitCode, ProfileError
from thunderctl.profile import Profile
from thunderctl.profile_files import list_profiles, load_profile
from thunderctl.workers.emulation import emulation_of

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("THUNDERCTL_HOME", str(folder))
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def writer(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return writer


def refused(name: str | Path, *overrides: str) -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        load_profile(str(name), overrides)
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


def leaves(values: dict[str, Any], at: str = "") -> set[str]:
    found = set()
    for key, value in values.items():
        found |= leaves(value, f"{at}{key}.") if isinstance(value, dict) and value else {f"{at}{key}"}
    return found


# --- the bundled profiles --------------------------------------------------------------------------------------

EMULATED = (
    "emulated-2x8h100-glm46",
    "emulated-h100x8-glm46",
    "emulated-h100x8-qwen3-235b",
    "emulated-h200-qwen3-coder",
    "emulated-rtx5090-qwen3-8b",
)
BUNDLED = (*EMULATED, "gpu-1", "h100x8", "laptop", "laptop-pressure")


def test_the_bundled_profiles_are_listed_with_a_description() -> None:
    entries = list_profiles()
    assert tuple(entry.name for entry in entries) == BUNDLED
    assert all(entry.description and entry.kind == "bundled" and entry.problem is None for entry in entries)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_profile_holds_and_is_named_like_its_file(name: str) -> None:
    resolved = load_profile(name)
    assert resolved.profile.name == name
    assert Path(resolved.origin).stem == name
    assert resolved.digest == resolved.profile.digest()


@pytest.mark.parametrize("name", BUNDLED)
def test_the_kv_cache_of_a_bundled_profile_holds_one_full_context_in_whole_blocks(name: str) -> None:
    profile = load_profile(name).profile
    if profile.workers.kv_tokens is not None:
        assert profile.workers.kv_tokens % (profile.workers.block_size or 16) == 0
        assert profile.workers.kv_tokens >= (profile.model.max_model_len or 0)


@pytest.mark.parametrize("name", BUNDLED)
def test_only_profiles_without_a_gpu_force_recorded_answers(name: str) -> None:
    profile = load_profile(name).profile
    assert profile.workers.replay == (profile.engine.kind == "cpu")
    assert profile.can_replay == (profile.engine.kind != "cuda")


@pytest.mark.parametrize("name", EMULATED)
def test_an_emulated_profile_names_what_the_catalogue_has_and_a_full_context_fits(name: str) -> None:
    profile = load_profile(name).profile
    emulation = emulation_of(profile)
    assert emulation.kv_tokens >= (profile.model.max_model_len or 0)
    assert "mulated" in profile.description


def test_laptop_pressure_differs_from_laptop_in_load_and_capacity_only() -> None:
    laptop = load_profile("laptop").profile.model_dump()
    pressure = load_profile("laptop-pressure").profile.model_dump()
    assert pressure["workers"].pop("kv_tokens") < laptop["workers"].pop("kv_tokens")
    for each in (laptop, pressure):
        del each["name"], each["description"], each["runs"]["agents"]
    assert pressure == laptop


# --- names and files -------------------------------------------------------------------------------------------


def test_a_name_is_found_among_ones_own_profiles(write: Write) -> None:
    file = write("home/profiles/mine.yaml", "runs: {agents: 3}")
    resolved = load_profile("mine")
    assert (resolved.profile.name, resolved.profile.runs.agents) == ("mine", 3)
    assert resolved.origin == str(file)


def test_a_bundled_profile_comes_before_ones_own_of_the_same_name(write: Write) -> None:
    write("home/profiles/laptop.yaml", "runs: {agents: 999}")
    assert load_profile("laptop").profile.runs.agents == 8
    assert [entry.kind for entry in list_profiles() if entry.name == "laptop"] == ["bundled", "hidden"]


def test_an_unknown_name_gets_a_suggestion_and_the_list() -> None:
    error = refused("labtop")
    assert "no profile 'labtop'" in error.message
    assert error.hint == "did you mean 'laptop'?"
    assert error.details == [f"known profiles: {', '.join(BUNDLED)}"]


@pytest.mark.parametrize("name", ["", "..", ".hidden", "laptop\0"])
def test_a_strange_name_is_just_unknown(name: str) -> None:
    assert "there is no profile" in refused(name).message


def test_a_name_with_a_suffix_gets_the_name_suggested() -> None:
    error = refused("laptop.yaml")
    assert "No such file" in error.message
    assert "did you mean the profile 'laptop'?" in str(error.hint)


def test_a_broken_file_of_ones_own_is_listed_and_does_not_hide_the_others(write: Write) -> None:
    write("home/profiles/broken.yaml", "a: [")
    write("home/profiles/fine.yaml", "description: All is well")
    write("home/profiles/.#fine.yaml", "an editor's lock")
    own = {entry.name: entry for entry in list_profiles() if entry.kind == "own"}
    assert set(own) == {"broken", "fine"}
    assert "broken.yaml:1:5: is not valid YAML" in str(own["broken"].problem)
    assert own["fine"].description == "All is well"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", ": is empty"),
        ("- a\n- b", ":1: must be a mapping of keys to values, not a list"),
        ("hello", ":1: must be a mapping of keys to values, not a single value"),
        ("workers:\n  count: 2\n  count: 3\n", ":3:3: says the key workers.count twice"),
        ("workers: [1,\n", ":2:1: is not valid YAML"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_with_its_place(write: Write, content: str, complaint: str) -> None:
    file = write("bad.yaml", content)
    assert refused(file).message.startswith(f"{file}{complaint}")


def test_a_folder_is_not_a_profile(tmp_path: Path) -> None:
    assert refused(tmp_path).message == f"{tmp_path}: is a directory, not a file"


def test_a_profile_without_a_name_is_named_like_its_file(write: Write) -> None:
    resolved = load_profile(str(write("team.yaml", "runs: {agents: 2}")))
    assert (resolved.profile.name, resolved.sources["name"]) == ("team", "default")


def test_a_name_that_cannot_be_a_folder_is_refused(write: Write) -> None:
    file = write("bad.yaml", "name: ../elsewhere")
    assert refused(file).message.startswith(f"{file}:1: name: profile name '../elsewhere' cannot be used")


# --- extends ---------------------------------------------------------------------------------------------------


def test_mappings_merge_and_lists_and_scalars_replace(write: Write) -> None:
    write("base.yaml", "workers: {count: 2, gpus: [0, 1, 2], env: {A: a, B: b}}\nengine: {kind: cuda}")
    file = write("top.yaml", "extends: base.yaml\nworkers:\n  gpus: [4, 5]\n  env: {B: c}\n")
    workers = load_profile(str(file)).profile.workers
    assert (workers.count, workers.gpus, workers.env) == (2, [4, 5], {"A": "a", "B": "c"})


def test_every_value_names_the_file_and_line_that_said_it_last(write: Write) -> None:
    write("base.yaml", "engine:\n  kind: cuda\nworkers:\n  count: 2\n  gpus: [0, 1]\n")
    file = write("top.yaml", "extends: base.yaml\nworkers:\n  count: 1\n")
    sources = load_profile(str(file), ["runs.agents=4"]).sources
    assert sources["engine.kind"] == "base.yaml:2"
    assert sources["workers.gpus"] == "base.yaml:5"
    assert sources["workers.count"] == "top.yaml:3"
    assert sources["runs.agents"] == "-c"
    assert sources["gateway.port"] == "default"


def test_files_of_the_same_name_are_told_apart_by_their_paths(write: Write) -> None:
    file = write("laptop.yaml", "extends: laptop\nruns: {agents: 2}")
    sources = load_profile(str(file)).sources
    assert sources["runs.agents"] == f"{file}:2"
    assert re.fullmatch(r".*/profiles/laptop\.yaml:\d+", sources["engine.kind"])


def test_a_path_is_relative_to_the_file_that_extends(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("shared/base.yaml", "runs: {agents: 5}")
    file = write("team/top.yaml", "extends: ../shared/base.yaml")
    monkeypatch.chdir(file.parent.parent)
    assert load_profile("team/top.yaml").profile.runs.agents == 5


def test_name_and_description_are_not_taken_over(write: Write) -> None:
    write("base.yaml", "name: base\ndescription: The base")
    profile = load_profile(str(write("top.yaml", "extends: base.yaml"))).profile
    assert (profile.name, profile.description) == ("top", "")


def test_null_takes_a_value_or_a_section_back_to_the_default(write: Write) -> None:
    write("base.yaml", "workers: {count: 2, kv_tokens: 6400}\nruns: {agents: 5}\nscheduler: {options: {a: 1, b: 2}}")
    file = write("top.yaml", "extends: base.yaml\nruns: null\nworkers: {kv_tokens: null}\nscheduler: {options: {a: ~}}")
    resolved = load_profile(str(file))
    assert resolved.profile.runs.agents == 8
    assert (resolved.profile.workers.count, resolved.profile.workers.kv_tokens) == (2, None)
    assert resolved.profile.scheduler.options == {"b": 2}
    assert resolved.sources["workers.kv_tokens"] == resolved.sources["runs.agents"] == "default"


def test_null_does_not_excuse_an_unknown_key(write: Write) -> None:
    file = write("top.yaml", "extends: laptop\nworkers:\n  cuont: null\n")
    assert refused(file).message == f"{file}:3: workers.cuont: unknown key"


def test_a_circle_is_refused_and_named(write: Write) -> None:
    a = write("a.yaml", "name: a\nextends: b.yaml")
    b = write("b.yaml", "extends: c.yaml")
    c = write("c.yaml", "\n\nextends: ./a.yaml")
    message = refused(a).message
    assert message == f"{c}:3: extends: profiles extend each other in a circle: {a} → {b} → {c} → {a}"


def test_a_profile_that_extends_itself_is_a_circle(write: Write) -> None:
    assert "in a circle" in refused(write("a.yaml", "extends: a.yaml")).message


def test_a_long_chain_is_followed_to_its_end(write: Write) -> None:
    write("p0.yaml", "runs: {agents: 77}")
    for n in range(1, 400):
        last = write(f"p{n}.yaml", f"extends: p{n - 1}.yaml")
    assert load_profile(str(last)).profile.runs.agents == 77


def test_a_base_that_is_missing_or_broken_names_the_line_that_wants_it(write: Write) -> None:
    file = write("top.yaml", "runs: {agents: 2}\nextends: labtop")
    assert refused(file).message == f"{file}:2: extends: there is no profile 'labtop'"
    write("broken.yaml", "a: [")
    file = write("top.yaml", "extends: broken.yaml")
    assert refused(file).message.startswith(f"{file}:1: extends: {file.parent}/broken.yaml:1:5: is not valid YAML")


@pytest.mark.parametrize("value", ["[laptop]", "{a: b}", "3"])
def test_extends_takes_one_name(write: Write, value: str) -> None:
    file = write("top.yaml", f"extends: {value}")
    assert refused(file).message == f"{file}:1: extends: must be the name or path of one profile"


# --- overrides -------------------------------------------------------------------------------------------------


def test_an_override_wins_over_every_file_and_the_last_one_over_the_others() -> None:
    resolved = load_profile("laptop-pressure", ["workers.kv_tokens=3200", "workers.kv_tokens=6400"])
    assert resolved.profile.workers.kv_tokens == 6400
    assert resolved.sources["workers.kv_tokens"] == "-c"


def test_an_override_may_be_a_list_a_mapping_or_nothing() -> None:
    overrides = [
        "workers.extra_args=[--seed, '7']",
        "scheduler={policy: paper, options: {dt: 5}}",
        "model.served_name=",
    ]
    profile = load_profile("laptop", overrides).profile
    assert profile.workers.extra_args == ["--seed", "7"]
    assert (profile.scheduler.policy, profile.scheduler.options) == ("paper", {"dt": 5})
    assert profile.model.served_name is None


def test_where_only_text_is_allowed_an_override_needs_no_quotes() -> None:
    profile = load_profile("laptop", ["engine.version=0.30", "workers.env.OMP_NUM_THREADS=2"]).profile
    assert (profile.engine.version, profile.workers.env) == ("0.30", {"OMP_NUM_THREADS": "2"})


@pytest.mark.parametrize("override", ["workers.count", "=3", "workers..count=3", ".count=3"])
def test_an_override_that_is_not_a_pair_is_refused(override: str) -> None:
    assert "is not KEY=VALUE" in refused("laptop", override).message


def test_an_unknown_key_in_an_override_gets_a_suggestion() -> None:
    error = refused("laptop", "workers.cuont=3")
    assert (error.message, error.hint) == (
        "-c workers.cuont: workers.cuont: unknown key",
        "did you mean 'workers.count'?",
    )


def test_an_override_cannot_extend() -> None:
    assert "only a file can extend" in refused("laptop", "extends=gpu-1").message


def test_an_override_that_is_not_yaml_is_refused_without_repeating_it() -> None:
    error = refused("laptop", "workers.env.TOKEN=[hunter2")
    assert error.message.startswith("-c workers.env.TOKEN: the value is not valid YAML")
    assert "hunter2" not in error.message + str(error.hint) + str(error.details)


# --- what errors say -------------------------------------------------------------------------------------------


def test_a_wrong_value_is_placed_where_it_was_said_not_where_it_was_inherited(write: Write) -> None:
    base = write("base.yaml", "workers:\n  count: many\n")
    file = write("top.yaml", "extends: base.yaml\nruns: {agents: 2}")
    assert refused(file).message == f"{base}:2: workers.count: must be a whole number, not 'many'"
    assert load_profile(str(file), ["workers.count=2"]).profile.workers.count == 2


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("workers:\n  gpus:\n  - 0\n  - one", ":4: workers.gpus.1: must be a whole number, not 'one'", None),
        ("workers: 3", ":1: workers: must be a mapping, not 3", None),
        ("workers: {count: 0}", ":1: workers.count: must be greater than or equal to 1, not 0", None),
        ("model: {trust_remote_code: 7}", ":1: model.trust_remote_code: must be true or false, not 7", None),
        ("engine:\n  version: 0.30", ":2: engine.version: must be text, not 0.3", "put the value in quotes"),
        (
            "engine: {kind: cudda}",
            ":1: engine.kind: must be 'cpu', 'cuda', 'emulated' or 'external', not 'cudda'",
            "did you mean 'cuda'?",
        ),
        ("workers: {kv_gib: .inf}", ":1: workers.kv_gib: must be a finite number, not inf", None),
        ("wokers:\n  count: 2", ":1: wokers: unknown key", "did you mean 'workers'?"),
        ("name: x\nkv_tokens: 640", ":2: kv_tokens: unknown key", "did you mean 'workers.kv_tokens'?"),
        ("zzz: 1", ":1: zzz: unknown key", None),
    ],
)
def test_a_mistake_is_named_with_line_key_and_remedy(write: Write, text: str, message: str, hint: str | None) -> None:
    file = write("bad.yaml", text)
    error = refused(file)
    assert (error.message, error.hint) == (f"{file}{message}", hint)


def test_an_option_that_fits_none_of_its_types_is_one_complaint(write: Write) -> None:
    file = write("bad.yaml", "scheduler:\n  options:\n    half_life: [1, 2]\n")
    error = refused(file)
    assert error.message.startswith(f"{file}:3: scheduler.options.half_life: must be a number or ")
    assert error.details == []


def test_all_mistakes_are_listed_together(write: Write) -> None:
    write("base.yaml", "runs: {agents: none}")
    file = write("bad.yaml", "extends: base.yaml\nworkers:\n  cuont: 2\n  gpus: 0\n")
    error = refused(file, "gateway.port=99999")
    assert error.message == f"{file}: 4 things are wrong in this profile"
    assert sorted(error.details) == [
        "-c gateway.port: gateway.port: must be less than or equal to 65535, not 99999",
        f"{file.parent}/bad.yaml:3: workers.cuont: unknown key (did you mean 'workers.count'?)",
        f"{file.parent}/bad.yaml:4: workers.gpus: must be a list, not 0",
        f"{file.parent}/base.yaml:1: runs.agents: must be a whole number, not 'none'",
    ]


def test_a_rule_over_several_sections_is_placed_at_the_key_that_it_names(write: Write) -> None:
    file = write("bad.yaml", "engine: {kind: cuda}\nworkers:\n  count: 2\n  gpus: [0]\n")
    assert refused(file).message.startswith(f"{file}:4: workers.gpus lists 1 GPUs")


def test_a_rule_whose_first_key_nobody_said_is_placed_at_the_next_one(write: Write) -> None:
    file = write("bad.yaml", "name: bad\nengine: {kind: external}")
    assert refused(file).message.startswith(f"{file}:2: workers.urls must name at least one server")
    assert refused("laptop", "gateway.host=0.0.0.0").message.startswith("-c gateway.host: gateway.api_key_env is req")


def test_weights_that_no_file_has_cannot_be_updated(write: Write) -> None:
    file = write("bad.yaml", "model: {load_format: dummy}\nworkers: {weight_updates: true}\n")
    assert "wants weights that are read from files" in refused(file).message
    file = write(
        "bad.yaml", "engine: {kind: external}\nworkers: {weight_updates: true, urls: ['http://localhost:1']}\n"
    )
    assert "wants workers that thunderctl starts" in refused(file).message


def test_values_of_the_server_environment_are_never_repeated(write: Write) -> None:
    error = refused(write("bad.yaml", "workers:\n  env:\n    TOKEN: [hunter2]\n"))
    assert "workers.env.TOKEN: must be text" in error.message
    assert "hunter2" not in error.message + str(error.hint)


# --- properties ------------------------------------------------------------------------------------------------

_word = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
_said: dict[str, st.SearchStrategy[Any]] = {
    "description": st.text(max_size=20),
    "engine.version": st.text(max_size=8),
    "model.source": st.text(max_size=12),
    "model.max_model_len": st.integers(1, 10**6),
    "model.trust_remote_code": st.booleans(),
    "workers.count": st.integers(1, 256),
    "workers.kv_tokens": st.integers(1, 10**7),
    "workers.extra_args": st.lists(st.text(max_size=6), max_size=3),
    "workers.env": st.dictionaries(_word, st.text(max_size=6), max_size=3),
    "workers.stop_grace_s": st.floats(0.1, 1e6),
    "scheduler.options": st.dictionaries(
        _word, st.integers() | st.booleans() | st.text(max_size=6) | st.floats(allow_nan=False, allow_infinity=False)
    ),
    "environments.network": st.sampled_from(["none", "bridge"]),
    "runs.max_error_share": st.floats(0, 1),
}
_flat = st.fixed_dictionaries({}, optional=_said)
_in_tmp = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def tree(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, value in flat.items():
        *sections, key = dotted.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[key] = value
    return nested


@_in_tmp
@given(base=_flat, top=_flat)
def test_every_leaf_has_a_source_and_layers_hold_what_the_last_one_said(
    tmp_path: Path, base: dict[str, Any], top: dict[str, Any]
) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"name": "base", **tree(base)}), "utf-8")
    (tmp_path / "top.yaml").write_text(yaml.safe_dump({"extends": "base.yaml", **tree(top)}), "utf-8")
    resolved = load_profile(str(tmp_path / "top.yaml"))
    dumped = resolved.profile.model_dump(mode="json")
    assert set(resolved.sources) == leaves(dumped)
    for dotted, source in resolved.sources.items():
        said_by_top = any(dotted == key or dotted.startswith(f"{key}.") for key in top)
        said_by_base = any(dotted == key or dotted.startswith(f"{key}.") for key in base if key != "description")
        assert re.fullmatch(r"(top|base)\.yaml:\d+|default", source)
        if source.startswith("base"):
            assert said_by_base
        elif source.startswith("top"):
            assert said_by_top
        else:
            assert not said_by_top and not said_by_base
    whole = {key: value for key, value in base.items() if key != "description"}
    for key, value in top.items():
        whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    assert resolved.profile == Profile.model_validate({"name": "top", **tree(whole)})


@_in_tmp
@given(said=_flat)
def test_a_profile_given_as_overrides_is_the_same_as_one_in_a_file(tmp_path: Path, said: dict[str, Any]) -> None:
    (tmp_path / "empty.yaml").write_text("name: same")
    (tmp_path / "full.yaml").write_text(yaml.safe_dump({"name": "same", **tree(said)}), "utf-8")
    # Not JSON: its 1e-05 is text to YAML 1.1, which wants a dot in a float.
    overrides = [f"{key}={yaml.safe_dump(value, default_flow_style=True, width=1e9)}" for key, value in said.items()]
    by_override = load_profile(str(tmp_path / "empty.yaml"), overrides)
    by_file = load_profile(str(tmp_path / "full.yaml"))
    assert by_override.digest == by_file.digest
    assert {source for key, source in by_override.sources.items() if key in said} <= {"-c"}


@_in_tmp
@given(said=_flat)
def test_a_profile_that_was_dumped_in_full_loads_as_the_same_profile(tmp_path: Path, said: dict[str, Any]) -> None:
    profile = Profile.model_validate({"name": "whole", **tree(said)})
    text = json.dumps(profile.model_dump(mode="json"))
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(json.loads(text)), "utf-8")
    assert load_profile(str(tmp_path / "whole.yaml")).digest == profile.digest()
