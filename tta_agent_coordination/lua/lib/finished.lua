-- The mark of a finished message: until origin standing nonce
--   until: the end of the dedup window; the mark may outlive it.
local function mark_of(ends, origin, standing, nonce)
  return ends .. ' ' .. origin .. ' ' .. standing .. ' ' .. nonce
end

local function mark_finished(id, now, state, standing)
  remember(id, mark_of(int(now + window), state.origin, standing, state.nonce))
end

local function parse_mark(raw)
  if not raw then return nil end
  local ends, origin, standing, nonce = string.match(raw, '^(%d+) (%S+) (%a) (%S+)$')
  if not ends then return nil end
  return { ends = tonumber(ends), origin = origin, standing = standing, nonce = nonce }
end

local function read_mark(id)
  return parse_mark(recall(id))
end
