-- circuit_read: how a circuit breaker stands
--
-- KEYS    circuit probes
-- ARGV    most:number
-- RETURNS 1 or 0: a call would be admitted; phase period failures successes probes left opened now
-- INCLUDE number clock circuit

local circuit = standing()
local open_to_calls = circuit.phase == CLOSED or is_over(circuit)
  or (circuit.phase == HALF_OPEN and probes() < most)
return answer(circuit, open_to_calls and 1 or 0)
