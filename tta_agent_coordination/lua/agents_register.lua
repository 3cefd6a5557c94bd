-- agents_register: begin a registration; it takes over from any earlier one of the same agent
--
-- KEYS    records states ends
-- ARGV    id:text body:text state:text grace:number
-- RETURNS the epoch of the registration, and now
-- INCLUDE number codes clock agents
--
-- Epochs come from the server's clock, so that they grow even after everything was lost.

local epoch = int(math.max(now, (standing(id) or 0) + 1))
store(id, epoch .. ' ' .. int(now) .. ' ' .. body, state)
forget_old()
return { epoch, int(now) }
