-- The mark of a finished message: until origin standing nonce
--   until: the end of the dedup window; the mark may outlive it.
local function mark_finished(id, now, state, standing)
  remember(id, table.concat({ int(now + window), state.origin, standing, state.nonce }, ' '))
end

local function read_mark(id)
  local raw = recall(id)
  if not raw then return nil end
  local ends, origin, standing, nonce = string.match(raw, '^(%d+) (%S+) (%a) (%S+)$')
  if not ends then return nil end
  return { ends = tonumber(ends), origin = origin, standing = standing, nonce = nonce }
end
