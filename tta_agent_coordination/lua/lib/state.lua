-- The state of a message that was delayed or handed out, one string in the hash `states`:
--   score attempts origin holder nonce standing error
-- `score` stays text, as no script calculates with it; `origin` is the call that sent the message;
-- `error` is '-' for none, or '+' and the text; or '- ' and the text if it is of a life before a
-- replay, which only the next dead letter tells.
local function fresh_state(score, origin)
  return { score = score, attempts = 0, origin = origin, holder = '-', nonce = '-',
           standing = RELEASED, error = '-' }
end

-- What somebody else overwrote counts as never delivered, and of normal priority.
local function lost_state()
  return fresh_state(int(4 * LEVEL), '-')
end

local function parse_state(raw)
  if not raw then return nil end
  local score, attempts, origin, holder, nonce, standing, error =
    string.match(raw, '^(%d+) (%d+) (%S+) (%S+) (%S+) (%a) ([-+].*)$')
  if not score or #score > 16 then return lost_state() end
  return { score = score, attempts = tonumber(attempts), origin = origin, holder = holder,
           nonce = nonce, standing = standing, error = error }
end

-- The origin of a message whose token is live; all that an ack needs of its state.
local function live_origin(raw, nonce)
  if not raw then return nil end
  local origin, holds, standing = string.match(raw, '^%d+ %d+ (%S+) %S+ (%S+) (%a) [-+]')
  return holds == nonce and standing == LIVE and origin
end

local function read_state(id)
  return parse_state(redis.call('HGET', k_states, id))
end

local function print_state(state)
  return state.score .. ' ' .. int(state.attempts) .. ' ' .. state.origin .. ' ' .. state.holder
    .. ' ' .. state.nonce .. ' ' .. state.standing .. ' ' .. state.error
end

local function write_state(id, state)
  redis.call('HSET', k_states, id, print_state(state))
end
