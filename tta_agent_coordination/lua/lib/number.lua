-- Lua would print a large number as 1.76e+15, and lose its end.
local function int(number)
  return string.format('%.0f', number)
end
