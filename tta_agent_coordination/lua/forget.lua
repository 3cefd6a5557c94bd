-- forget: strike out inboxes that are empty and were not in use for a while
--
-- KEYS    inboxes
-- ARGV    grace:number lifetime:number then inbox, repeated
-- RETURNS nothing
-- INCLUDE clock

local before = now_us() - grace
for i = 3, #ARGV do
  local used = tonumber(redis.call('ZSCORE', k_inboxes, ARGV[i]))
  if used and used < before then redis.call('ZREM', k_inboxes, ARGV[i]) end
end
redis.call('PEXPIRE', k_inboxes, lifetime)
