-- recover: move back what is due in an inbox that nobody reads at the moment
--
-- KEYS    messages ready delayed leased states claims marks marks_old seq wake dead dead_records dead_dropped
-- ARGV    call:text horizon:number deliveries:number dead_limit:number window:number retention:number
-- RETURNS leases moved, next_due (µs from now; -1: never), dropped, messages held, {id, reason of the dead, repeated}
-- INCLUDE codes number clock state marks finished bury wake due tidy

local now = now_us()
local earlier = recall_call()
if earlier then
  return { tonumber(earlier), int(next_due(now)), 0, redis.call('HLEN', k_messages), {} }
end

-- The first write is one that a server out of memory allows; what follows it then too.
redis.call('DEL', k_wake)
local moved = move_due(now)
if moved > 0 then remember_call(moved) end
local due = next_due(now)
if redis.call('EXISTS', k_ready) == 1 or (due >= 0 and due < horizon) then wake() end
tidy()
return { moved, int(due), dropped, redis.call('HLEN', k_messages), buried }
