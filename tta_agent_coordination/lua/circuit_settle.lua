-- circuit_settle: count what came of a call, and give its place back
--
-- KEYS    circuit probes marks marks_old
-- ARGV    call:text period:number outcome:text threshold:number needed:number timeout:number lifetime:number retention:number
-- RETURNS 1; phase period failures successes probes left opened now, as they are then
-- INCLUDE number clock marks circuit circuit_change
--
-- Invariant: an outcome counts once, and only in the period in which its call was admitted.
-- The place is given back first: a server that is full lets that through, and the rest with it.

redis.call('ZREM', k_probes, call)
local circuit = standing()

local function fail()
  circuit.failures = circuit.failures + 1
  if circuit.phase == HALF_OPEN or circuit.failures >= threshold then
    enter(circuit, OPEN, timeout)
  end
end

local function succeed()
  circuit.failures = 0
  if circuit.phase == HALF_OPEN then
    circuit.successes = circuit.successes + 1
    if circuit.successes >= needed then enter(circuit, CLOSED, 0) end
  end
end

local counts = outcome ~= 'none' and period == circuit.period and circuit.phase ~= OPEN
if counts and not recall_call() then
  if outcome == 'failure' then fail() else succeed() end
  save(circuit)
  remember_call(outcome)
end
return answer(circuit, 1)
