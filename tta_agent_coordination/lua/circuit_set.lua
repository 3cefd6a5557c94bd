-- circuit_set: put a circuit breaker into a phase, whatever it is in
--
-- KEYS    circuit probes marks marks_old
-- ARGV    call:text phase:text timeout:number lifetime:number retention:number
-- RETURNS 1; phase period failures successes probes left opened now
-- INCLUDE number clock marks circuit circuit_change
--
-- Invariant: calls that were admitted before count for nothing afterwards.

local circuit = standing()
if not recall_call() then
  enter(circuit, phase, timeout)
  save(circuit)
  remember_call(phase)
end
return answer(circuit, 1)
