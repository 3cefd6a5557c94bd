-- How a circuit breaker changes. A clock that was set back does not bring an old period back.
local function enter(circuit, phase, timeout)
  redis.call('DEL', k_probes)
  circuit.phase = phase
  circuit.period = math.max(now, circuit.period + 1)
  circuit.successes = 0
  if phase == CLOSED then circuit.failures, circuit.opened = 0, 0 end
  if phase == OPEN then circuit.opened, circuit.ends = now, now + timeout end
end

-- What nobody uses is forgotten, but no open circuit before it may be tried again.
local function save(circuit)
  redis.call('HSET', k_circuit,
    'phase', circuit.phase, 'period', int(circuit.period),
    'failures', int(circuit.failures), 'successes', int(circuit.successes),
    'opened', int(circuit.opened), 'ends', int(circuit.ends))
  local used = now
  if circuit.phase == OPEN then used = math.max(now, circuit.ends) end
  redis.call('PEXPIREAT', k_circuit, int(math.ceil(used / 1000) + lifetime))
end
