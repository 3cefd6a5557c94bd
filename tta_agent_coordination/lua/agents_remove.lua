-- agents_remove: end a registration, unless a later one has taken over
--
-- KEYS    records states ends
-- ARGV    id:text epoch:text state:text grace:number call:text
-- RETURNS 1 if it is ended, else 0
-- INCLUDE number codes clock agents
--
-- An epoch of 0 stands for any. What is left until the grace time ends refuses a beat that was
-- under way, tells a call that is repeated from another, and lets those who watch see it: the
-- registration may have begun and ended since they looked last.

local latest, last, rest = standing(id)
if not latest and epoch == '0' then return 0 end
if last == '-' then return string.match(rest, '^%S+') == call and 1 or 0 end
if latest and epoch ~= '0' and latest > tonumber(epoch) then return 0 end
redis.call('HDEL', k_records, id)
local ended = latest and math.max(latest, tonumber(epoch)) or tonumber(epoch)
store(id, int(ended) .. ' - ' .. call .. ' ' .. int(now) .. (rest and ' ' .. rest or ''), state)
forget_old()
return 1
