-- dead_purge: drop dead letters: those named, or all
--
-- KEYS    marks marks_old dead dead_records dead_dropped
-- ARGV    call:text retention:number all:number then id, repeated
-- RETURNS how many were dropped
-- INCLUDE marks

local earlier = recall_call()
if earlier then return tonumber(earlier) end

local gone = 0
if all == 1 then
  gone = redis.call('ZCARD', k_dead)
  redis.call('UNLINK', k_dead, k_dead_records, k_dead_dropped)
end
for i = 4, #ARGV do
  gone = gone + redis.call('ZREM', k_dead, ARGV[i])
  redis.call('HDEL', k_dead_records, ARGV[i])
end
if gone > 0 then remember_call(gone) end
return gone
