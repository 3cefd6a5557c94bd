-- dead_list: read dead letters, the oldest first; changes nothing
--
-- KEYS    dead dead_records
-- ARGV    offset:number limit:number
-- RETURNS id and record of each, one after the other

local found = {}
local ids = redis.call('ZRANGE', k_dead, offset, offset + limit - 1)
for _, id in ipairs(ids) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGET', k_dead_records, id) or ''
end
return found
