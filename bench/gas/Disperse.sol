// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @dev One transaction that transfers to many, as Disperse does it: take the sum, then one transfer each. To compare with.
contract Disperse {
    error Refused();

    function disperse(IERC20 token, address[] calldata payees, uint256[] calldata amounts) external {
        uint256 total = 0;
        for (uint256 i = 0; i < payees.length; ++i) {
            total += amounts[i];
        }
        if (!token.transferFrom(msg.sender, address(this), total)) revert Refused();
        for (uint256 i = 0; i < payees.length; ++i) {
            if (!token.transfer(payees[i], amounts[i])) revert Refused();
        }
    }
}
