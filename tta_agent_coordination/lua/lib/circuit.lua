-- A circuit breaker: its phase, its period, what was counted in it, and when it opened and may be
-- tried again. The period is a number that grows with each change of phase: what was admitted in
-- one counts for nothing in another. Without a record it is closed, in period 0.
local CLOSED, OPEN, HALF_OPEN = 'closed', 'open', 'half-open'

local now = now_us()

local function standing()
  local held = redis.call('HMGET', k_circuit,
    'phase', 'period', 'failures', 'successes', 'opened', 'ends')
  local phase = held[1]
  if phase ~= OPEN and phase ~= HALF_OPEN then phase = CLOSED end
  local numbers = {}
  for i = 2, 6 do numbers[i] = tonumber(held[i] or 0) or 0 end
  return {
    phase = phase, period = numbers[2], failures = numbers[3], successes = numbers[4],
    opened = numbers[5], ends = numbers[6],
  }
end

local function is_over(circuit)
  return circuit.phase == OPEN and now >= circuit.ends
end

-- Places of processes that were killed are free when their leases have passed.
local function probes()
  return redis.call('ZCOUNT', k_probes, '(' .. int(now), '+inf')
end

-- An open circuit whose time is over is half-open to who looks; the next call makes it so.
local function answer(circuit, admitted)
  local phase, left = circuit.phase, 0
  if is_over(circuit) then phase = HALF_OPEN end
  if phase == OPEN then left = circuit.ends - now end
  return {
    admitted, phase, int(circuit.period), circuit.failures, circuit.successes,
    probes(), left, circuit.opened, now,
  }
end
