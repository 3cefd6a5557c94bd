-- The state of a message that was delayed or handed out, one string in the hash `states`:
--   score attempts origin holder nonce standing error
-- `origin` is the call that sent it; `error` is '-' for none, or '+' and the text.
local function fresh_state(score, origin)
  return { score = score, attempts = 0, origin = origin, holder = '-', nonce = '-',
           standing = RELEASED, error = '-' }
end

local function read_state(id)
  local raw = redis.call('HGET', k_states, id)
  if not raw then return nil end
  local score, attempts, origin, holder, nonce, standing, error =
    string.match(raw, '^(%d+) (%d+) (%S+) (%S+) (%S+) (%a) ([-+].*)$')
  -- What somebody else overwrote counts as never delivered, and of normal priority.
  if not score then return fresh_state(4 * LEVEL, '-') end
  return { score = tonumber(score), attempts = tonumber(attempts), origin = origin,
           holder = holder, nonce = nonce, standing = standing, error = error }
end

local function write_state(id, state)
  redis.call('HSET', k_states, id, table.concat({ int(state.score), int(state.attempts),
    state.origin, state.holder, state.nonce, state.standing, state.error }, ' '))
end
