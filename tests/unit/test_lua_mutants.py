"""The mutants of Lua that `python -m tests.mutation` tries the tests on."""

from tests.mutation.lua_mutants import mutants_of

SOURCE = """-- a < b in a comment stays
local left = first - 1
if left <= 0 then return end
redis.call('DEL', key)
"""


def changes(source: str) -> set[tuple[int, str]]:
    return {(mutant.line, mutant.kind) for mutant in mutants_of("x.lua", source)}


def test_each_place_is_changed_in_each_way_that_is_still_lua():
    assert changes(SOURCE) == {
        (2, "- -> +"),
        (2, "number + 1"),
        (3, "drop"),
        (3, "<= -> <"),
        (3, "number + 1"),
        (4, "drop"),
    }


def test_a_mutant_differs_in_one_line_and_says_which():
    [dropped] = [m for m in mutants_of("x.lua", SOURCE) if (m.line, m.kind) == (4, "drop")]

    assert dropped.before == "redis.call('DEL', key)"
    assert dropped.source == SOURCE.replace("redis.call('DEL', key)\n", "")
    assert dropped.diff(SOURCE).endswith("-redis.call('DEL', key)")


def test_what_is_no_lua_is_no_mutant():
    assert changes("local t = {\n  first,\n}\n") == {(2, "drop")}
