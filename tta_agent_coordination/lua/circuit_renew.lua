-- circuit_renew: keep the places of probes that run for long
--
-- KEYS    probes
-- ARGV    lease:number lifetime:number then id, repeated
-- RETURNS for each 1, or 0 where the place is gone
-- INCLUDE number clock
--
-- Invariant: a place that was given away is not taken back, and no place is made.

local ends = int(now_us() + lease)
redis.call('PEXPIRE', k_probes, lifetime) -- a full server lets this through, and the rest with it
local kept = {}
for i = 3, #ARGV do
  local held = redis.call('ZSCORE', k_probes, ARGV[i])
  if held then redis.call('ZADD', k_probes, ends, ARGV[i]) end
  kept[#kept + 1] = held and 1 or 0
end
return kept
