-- The inbox of a process that waits for replies fades with it: its keys live `lifetime` ms after
-- they were last touched. 0 for all other inboxes, which stay.
local function fade()
  if lifetime == 0 then return end
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, lifetime) end
end
