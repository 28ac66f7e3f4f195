// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// An ordinary token: everybody's ERC-20 with the decimals that a test asks for, all of it in its maker's hands.
contract Token is ERC20 {
    uint8 private immutable _decimals;

    constructor(string memory name, string memory symbol, uint8 decimals_) ERC20(name, symbol) {
        _decimals = decimals_;
        _mint(msg.sender, 10 ** (12 + uint256(decimals_)));
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }
}
