-- touch: note that an inbox is in use, so that recovery of all inboxes finds it
--
-- KEYS    inboxes
-- ARGV    then inbox, repeated
-- RETURNS how many are new
-- INCLUDE clock

local now = int(now_us())
local added = 0
for _, inbox in ipairs(ARGV) do
  added = added + redis.call('ZADD', k_inboxes, now, inbox)
end
return added
