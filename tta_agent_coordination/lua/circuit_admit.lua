-- circuit_admit: let a call through a circuit breaker, or not
--
-- KEYS    circuit probes
-- ARGV    call:text most:number lease:number lifetime:number
-- RETURNS 1 or 0: admitted; phase period failures successes probes left opened now
-- INCLUDE number clock circuit circuit_change
--
-- Invariant: at most `most` probes have a place at a time. A repetition has the place of the first.
-- While the circuit is closed nothing is written.

local circuit = standing()
if is_over(circuit) then
  enter(circuit, HALF_OPEN, 0)
  save(circuit)
end

local function take_place()
  redis.call('ZREMRANGEBYSCORE', k_probes, '-inf', int(now))
  if redis.call('ZSCORE', k_probes, call) then return 1 end
  if redis.call('ZCARD', k_probes) >= most then return 0 end
  redis.call('ZADD', k_probes, int(now + lease), call)
  redis.call('PEXPIRE', k_probes, lifetime)
  return 1
end

local admitted = 0
if circuit.phase == CLOSED then admitted = 1 end
if circuit.phase == HALF_OPEN then admitted = take_place() end
return answer(circuit, admitted)
