-- agents_beat: keep registrations alive, and make them again where they are gone
--
-- KEYS    records states ends
-- ARGV    grace:number then id epoch body state, repeated
-- RETURNS for each 1, or 0 where a later registration has taken over or somebody ended it
-- INCLUDE number codes clock agents
--
-- Invariant: a beat carries all there is to know, so that a server which lost everything knows
-- it again after one beat of each agent. One that is refused changes nothing, not even the state.

local answers = {}

local function beat(id, epoch, body, state)
  local latest, last = standing(id)
  if latest and (latest > tonumber(epoch) or (latest == tonumber(epoch) and last == '-')) then
    return 0
  end
  store(id, epoch .. ' ' .. int(now) .. ' ' .. body, state)
  return 1
end

for i = 2, #ARGV, 4 do
  answers[#answers + 1] = beat(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
end
forget_old()
return answers
