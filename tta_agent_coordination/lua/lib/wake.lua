-- Wakes one consumer that waits, so that it looks at what is ready and when the next is due.
local function wake()
  redis.call('ZADD', k_wake, 0, 'w')
end
